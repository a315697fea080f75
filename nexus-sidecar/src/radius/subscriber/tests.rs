//! Which line, which id, which pool.

use super::*;

const NAS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn identity() -> Identity {
    Identity {
        subscriber_id: "{User-Name}".parse().unwrap(),
        nas_port_id: ["{*}:{s_vlan}.{c_vlan}", "{*}:{c_vlan}"]
            .map(|p| p.parse().unwrap())
            .to_vec(),
        interfaces: InterfaceChoice::default(),
        default_pool: Some(PoolId::new("residential").unwrap()),
    }
}

fn request(rows: &[(AttributeId, &[u8])]) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.push(AttributeId::USER_NAME, b"alice").unwrap();
    rows.iter()
        .for_each(|(id, value)| attributes.push(*id, value).unwrap());
    attributes
}

fn on_port(port: &[u8]) -> Result<Option<(u16, u16)>, SubscriberError> {
    let mac: (AttributeId, &[u8]) = (AttributeId::CALLING_STATION_ID, b"02-00-00-00-00-01");
    let request = request(&[mac, (AttributeId::NAS_PORT_ID, port)]);
    Ok(identity().subscriber(NAS, &request, None, None)?.vlans)
}

#[test]
fn the_line_is_the_vlan_pair_or_the_mac_alone() {
    assert_eq!(on_port(b"pon-1/3:100.200"), Ok(Some((100, 200))));
    assert_eq!(on_port(b"pon-1/3:200"), Ok(Some((200, 0))));
    assert_eq!(on_port(b"pon-1/3"), Ok(None));
    assert_eq!(
        on_port(b"pon-1/3:100.5000"),
        Err(SubscriberError::Vlan(VlanOutOfRange(5000)))
    );
    assert_eq!(on_port(b"\xff"), Err(SubscriberError::PortNotText));
    let bare = request(&[(AttributeId::CALLING_STATION_ID, b"0200.0000.0001")]);
    assert_eq!(
        identity().subscriber(NAS, &bare, None, None).unwrap().vlans,
        None
    );
}

#[test]
fn a_request_without_a_mac_is_refused() {
    let refused = |rows: &[(AttributeId, &[u8])]| {
        identity()
            .subscriber(NAS, &request(rows), None, None)
            .unwrap_err()
    };
    assert_eq!(refused(&[]), SubscriberError::NoMac);
    let text = "+49 30 1234";
    let number = refused(&[(AttributeId::CALLING_STATION_ID, text.as_bytes())]);
    assert_eq!(number, SubscriberError::BadMac(text.to_owned()));
}

#[test]
fn the_users_file_names_id_and_pool_and_framed_pool_goes_before_it() {
    let user: User = serde_saphyr::from_str(
        "{username: alice, password: p, subscriber_id: sub-1, pool: business, metadata: {a: b}}",
    )
    .unwrap();
    let request = request(&[
        (AttributeId::CALLING_STATION_ID, b"020000000001"),
        (AttributeId::AGENT_CIRCUIT_ID, b"0/1/5/32"),
        (AttributeId::AGENT_REMOTE_ID, &[0, 255]),
    ]);
    let framed = |pool: &[u8]| {
        let mut theirs = Attributes::new();
        theirs.push(AttributeId::FRAMED_POOL, pool).unwrap();
        theirs
    };
    let pool = |user, named: Option<&[u8]>| {
        let theirs = named.map(framed);
        let subscriber = identity().subscriber(NAS, &request, user, theirs.as_ref());
        let subscriber = subscriber.unwrap();
        (
            subscriber.subscriber.to_string(),
            subscriber
                .pool
                .or(subscriber.default_pool)
                .unwrap()
                .to_string(),
        )
    };
    assert_eq!(
        pool(None, None),
        ("alice".to_owned(), "residential".to_owned())
    );
    assert_eq!(
        pool(Some(&user), None),
        ("sub-1".to_owned(), "business".to_owned())
    );
    assert_eq!(
        pool(Some(&user), Some(b"gold")),
        ("sub-1".to_owned(), "gold".to_owned())
    );
    let refused = identity()
        .subscriber(NAS, &request, None, Some(&framed(b"a b")))
        .unwrap_err();
    assert!(matches!(refused, SubscriberError::Pool(_)));

    let metadata = identity()
        .subscriber(NAS, &request, Some(&user), None)
        .unwrap()
        .metadata;
    let rows: Vec<_> = metadata
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        rows,
        [
            ("a", "b"),
            ("circuit_id", "0/1/5/32"),
            ("mac", "02:00:00:00:00:01"),
            ("remote_id", "0x00ff"),
            ("user_name", "alice"),
        ]
    );
}

#[test]
fn an_id_that_is_too_long_is_refused_and_not_cut() {
    let mut request = Attributes::new();
    request.push(AttributeId::USER_NAME, &[b'x'; 129]).unwrap();
    request
        .push(AttributeId::CALLING_STATION_ID, b"020000000001")
        .unwrap();
    let refused = identity()
        .subscriber(NAS, &request, None, None)
        .unwrap_err();
    assert!(
        matches!(refused, SubscriberError::SubscriberId(_)),
        "{refused}"
    );
}

#[test]
fn interface_circuit_id_and_remote_id_come_octet_for_octet() {
    let request = request(&[
        (AttributeId::CALLING_STATION_ID, b"020000000001"),
        (AttributeId::AGENT_CIRCUIT_ID, &[0, 4, 0, 100]),
        (AttributeId::AGENT_REMOTE_ID, b"cpe"),
    ]);
    let mut identity = identity();
    let client: crate::radius::ClientConfig =
        serde_saphyr::from_str("{address: 192.0.2.7, secret: s, interface: eth2}").unwrap();
    identity.interfaces = InterfaceChoice::new(&[], &[client]).unwrap();
    let subscriber = identity.subscriber(NAS, &request, None, None).unwrap();
    assert_eq!(subscriber.interface.as_deref(), Some("eth2"));
    assert_eq!(subscriber.circuit_id.as_deref(), Some(&[0, 4, 0, 100][..]));
    assert_eq!(subscriber.remote_id.as_deref(), Some(&b"cpe"[..]));
    let elsewhere = IpAddr::from([192, 0, 2, 8]);
    let subscriber = identity.subscriber(elsewhere, &request, None, None);
    assert_eq!(subscriber.unwrap().interface, None);
}
