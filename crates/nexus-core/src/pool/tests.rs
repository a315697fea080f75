//! Tests of pools: the customer's examples, bad input, and arithmetic as properties.

use super::*;

mod change;
mod examples;
mod mistakes;
mod space;
mod text;
mod types;

fn pool(yaml: &str) -> Result<Pool, String> {
    let spec: PoolSpec = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    Pool::new(spec).map_err(|error| error.to_string())
}

/// A valid pool of ports of 256 public addresses with `extra` appended.
fn nat(extra: &str) -> Result<Pool, String> {
    pool(&format!(
        "id: nat\ntype: port\nrange: 1024-65535\naddresses: 203.0.113.0/24\n{extra}\n"
    ))
}

/// A valid IPv4 pool with `extra` appended.
fn with(extra: &str) -> Result<Pool, String> {
    pool(&format!(
        "id: p4\ntype: ipv4\ncidr: 100.64.0.0/10\n{extra}\n"
    ))
}
