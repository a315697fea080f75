//! A pool as text comes back as it was.

use super::*;

#[test]
fn what_an_operator_wrote_comes_back_from_json_unchanged() {
    let pool = with(
        "exclusions: [100.64.0.0/24]\ndhcp: {dns: [1.1.1.1], options: {43: \"0a\"}}\nvrf: blue",
    )
    .unwrap();
    let json = serde_json::to_string(pool.spec()).unwrap();
    let again = Pool::new(serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(again, pool);
}

#[test]
fn options_come_back_from_a_row_that_says_what_it_is() {
    let pool = with("dhcp: {options: {43: \"0102\", 66: \"61\"}}").unwrap();
    let row = crate::edge::Row::Pool(pool.spec().clone());
    let text = serde_json::to_string(&row).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::edge::Row>(&text).unwrap(),
        row
    );
}
