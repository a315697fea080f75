//! What becomes of a question by a users file, and what the edge is told and says.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use nexus_core::id::PoolId;

use super::*;
use crate::edge_handle::AuthorizedSubscriber;
use crate::radius::authorizer::FramedAddress;
use crate::radius::{RadiusConfig, RadiusServer};

/// The edge as a test plays it.
#[derive(Clone, Default)]
struct Edge {
    asked: Arc<Mutex<Vec<AuthorizedSubscriber>>>,
    refusal: Option<EdgeError>,
}

impl Authorizer for Edge {
    async fn authorize(
        &self,
        subscriber: AuthorizedSubscriber,
    ) -> Result<FramedAddress, EdgeError> {
        self.asked.lock().unwrap().push(subscriber);
        self.refusal.clone().map_or(
            Ok(FramedAddress {
                pool: PoolId::new("p").unwrap(),
                address: Ipv4Addr::new(100, 64, 0, 9),
                mask: Ipv4Addr::new(255, 192, 0, 0),
                ends_in_secs: None,
                further: Vec::new(),
            }),
            Err,
        )
    }
}

async fn access(folder: &std::path::Path) -> LineAccess {
    let users = folder.join("users.yaml");
    std::fs::write(
        &users,
        "users:\n- {username: line-7, password: secret, subscriber_id: sub-7, pool: gold}\n\
         - {username: line-8, password: other}\n",
    )
    .unwrap();
    let yaml = format!("users_file: {}\ndefault_pool: silver", users.display());
    let config: RadiusConfig = serde_saphyr::from_str(&yaml).unwrap();
    RadiusServer::bind(config.check().unwrap())
        .await
        .unwrap()
        .lines()
}

fn request(name: &str, password: Option<&str>) -> LineRequest {
    let mut attributes = Attributes::new();
    for (id, value) in [
        (AttributeId::USER_NAME, name),
        (AttributeId::AGENT_CIRCUIT_ID, "0/1:7"),
    ] {
        attributes.push_text(id, value).unwrap();
    }
    LineRequest {
        attributes,
        password: password.map(|text| text.as_bytes().to_vec()),
        line: Line {
            interface: Some("eth1".to_owned()),
            mac: [2, 0, 0, 0, 0, 7],
            vlans: Some((100, 7)),
        },
        subscriber_id: None,
    }
}

fn refused(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Refused { outcome, .. } => Some(outcome),
        _ => None,
    }
}

#[tokio::test]
async fn the_edge_is_told_all_that_is_known_of_the_subscriber() {
    let folder = tempfile::tempdir().unwrap();
    let access = access(folder.path()).await;
    let edge = Edge::default();
    let verdict = access
        .authorize(&edge, &request("line-7", Some("secret")))
        .await;
    assert!(matches!(verdict, Verdict::Granted { .. }), "{verdict:?}");
    let asked = edge.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.subscriber.as_str(), "sub-7");
    assert_eq!(asked.interface.as_deref(), Some("eth1"));
    assert_eq!(
        (asked.mac, asked.vlans),
        ([2, 0, 0, 0, 0, 7], Some((100, 7)))
    );
    assert_eq!(asked.circuit_id.as_deref(), Some(&b"0/1:7"[..]));
    assert_eq!(
        (asked.pool.unwrap().as_str(), asked.remote_id),
        ("gold", None)
    );
    assert_eq!(asked.metadata["user_name"], "line-7");
    assert_eq!(asked.metadata["circuit_id"], "0/1:7");
    assert_eq!(asked.metadata["mac"], "02:00:00:00:00:07");
}

#[tokio::test]
async fn who_has_no_password_needs_a_name_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let access = access(folder.path()).await;
    let edge = Edge::default();
    for (name, password, expected) in [
        ("line-7", Some("wrong"), Some("reject")),
        ("line-9", Some("secret"), Some("reject")),
        ("line-9", None, Some("reject")),
        ("line-8", None, None),
    ] {
        let verdict = access.authorize(&edge, &request(name, password)).await;
        assert_eq!(refused(&verdict), expected, "{name}: {verdict:?}");
    }
    let asked = edge.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    let by_template = asked.first().unwrap();
    assert_eq!(by_template.subscriber.as_str(), "line-8");
}

#[tokio::test]
async fn the_subscriber_id_may_have_a_template_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let access = access(folder.path()).await;
    let edge = Edge::default();
    let mut asked = request("line-8", None);
    asked.subscriber_id = Some("circuit-{Agent-Circuit-Id}".parse().unwrap());
    access.authorize(&edge, &asked).await;
    asked.subscriber_id = Some("{Class}".parse().unwrap());
    let without = access.authorize(&edge, &asked).await;
    assert_eq!(refused(&without), Some("bad-identity"));
    let asked = edge.asked.lock().unwrap();
    let ids: Vec<_> = asked.iter().map(|one| one.subscriber.as_str()).collect();
    assert_eq!(ids, ["circuit-0=2F1:7"]);
}

#[tokio::test]
async fn what_may_be_over_a_moment_later_is_no_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let access = access(folder.path()).await;
    let pool = PoolId::new("p").unwrap();
    for (error, remembered) in [
        (EdgeError::Busy, false),
        (EdgeError::LeaseEnded, false),
        (EdgeError::Exhausted(pool), false),
        (EdgeError::BadKey("no line".to_owned()), true),
    ] {
        let edge = Edge {
            refusal: Some(error.clone()),
            ..Edge::default()
        };
        let verdict = access.authorize(&edge, &request("line-8", None)).await;
        assert_eq!(refused(&verdict).is_some(), remembered, "{error}");
    }
}
