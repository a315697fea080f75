//! The clients' state machine: every way through it.

use super::*;
use crate::load::plan::Pace;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

fn plan(clients: u32) -> Plan {
    Plan::new(
        "x0",
        [2, 0, 0, 0, 0, 0],
        clients,
        Pace::Closed { window: 1 },
    )
}

fn sessions(plan: &Plan) -> Sessions {
    Sessions::new(plan, 0, 7).unwrap()
}

fn reply(to: &Message, kind: Kind) -> Reply {
    Reply {
        from: [2, 0, 0, 0, 0, 1],
        xid: to.xid,
        kind,
        mac: [0; 6],
        address: ADDRESS,
        server: SERVER,
    }
}

fn expired(sessions: &mut Sessions, now: u64) -> Vec<Message> {
    let mut said = Vec::new();
    sessions.expire(now, |message| said.push(message));
    said
}

#[test]
fn a_full_exchange_has_four_messages_and_two_round_trips() {
    let mut sessions = sessions(&plan(2));
    let discover = sessions.begin(0).unwrap();
    assert_eq!((discover.client, discover.says), (0, Says::Discover));
    let select = sessions
        .receive(3 * MS, &reply(&discover, Kind::Offer), true)
        .unwrap();
    assert_eq!(select.xid, discover.xid);
    assert_eq!(
        select.says,
        Says::Select {
            address: ADDRESS,
            server: SERVER
        }
    );
    assert_eq!(sessions.under_way(), 1);
    assert_eq!(
        sessions.receive(5 * MS, &reply(&select, Kind::Ack), true),
        None
    );
    assert_eq!(sessions.under_way(), 0);
    let report = crate::load::Report::of(vec![sessions.into_tally()]);
    assert_eq!(
        (
            report.counts.begun,
            report.counts.completed,
            report.counts.lost
        ),
        (1, 1, 0)
    );
    assert_eq!((report.round_trip.count, report.exchange.count), (2, 1));
    assert!(
        report.exchange.max.abs_diff(5 * MS) < MS / 100,
        "{:?}",
        report.exchange
    );
}

#[test]
fn clients_take_turns_and_transactions_differ() {
    let mut sessions = sessions(&plan(2));
    let mut seen = Vec::new();
    for now in 0..6 {
        let discover = sessions.begin(now).unwrap();
        let select = sessions
            .receive(now, &reply(&discover, Kind::Offer), true)
            .unwrap();
        sessions.receive(now, &reply(&select, Kind::Ack), true);
        assert_eq!(u64::from(discover.client), now % 2);
        assert!(!seen.contains(&discover.xid));
        seen.push(discover.xid);
    }
}

#[test]
fn without_retries_an_unanswered_message_is_a_lost_exchange() {
    let mut sessions = sessions(&plan(1));
    let discover = sessions.begin(0).unwrap();
    assert!(expired(&mut sessions, 999 * MS).is_empty());
    assert_eq!(sessions.under_way(), 1);
    assert!(expired(&mut sessions, 1000 * MS).is_empty());
    assert_eq!((sessions.under_way(), sessions.tally().counts.lost), (0, 1));
    // The answer after all: late, also when the client is busy with its next exchange.
    assert_eq!(
        sessions.receive(1001 * MS, &reply(&discover, Kind::Offer), true),
        None
    );
    sessions.begin(1002 * MS).unwrap();
    assert_eq!(
        sessions.receive(1003 * MS, &reply(&discover, Kind::Offer), true),
        None
    );
    assert_eq!((sessions.tally().counts.late, sessions.under_way()), (2, 1));
}

#[test]
fn with_retries_a_client_waits_as_the_rfc_says() {
    let mut sessions = sessions(&Plan {
        retry: true,
        ..plan(1)
    });
    let discover = sessions.begin(0).unwrap();
    let mut at = 0;
    for wait in [4, 8, 16, 32, 64, 64] {
        let (earliest, latest) = (at + (wait - 1) * S, at + (wait + 1) * S);
        assert!(
            expired(&mut sessions, earliest - 1).is_empty(),
            "after {wait} s"
        );
        let said = expired(&mut sessions, latest);
        assert_eq!(said.len(), 1, "after {wait} s");
        assert_eq!((said[0].xid, said[0].says), (discover.xid, Says::Discover));
        assert_eq!(u64::from(said[0].secs), latest / S);
        at = latest;
    }
    assert_eq!(sessions.tally().counts.repeated, 6);
}

#[test]
fn a_repeated_message_has_no_round_trip_but_its_exchange_counts_from_the_first() {
    let mut sessions = sessions(&Plan {
        retry: true,
        ..plan(1)
    });
    let discover = sessions.begin(0).unwrap();
    assert_eq!(expired(&mut sessions, 5 * S).len(), 1);
    let select = sessions
        .receive(6 * S, &reply(&discover, Kind::Offer), true)
        .unwrap();
    sessions.receive(7 * S, &reply(&select, Kind::Ack), true);
    let report = crate::load::Report::of(vec![sessions.into_tally()]);
    assert_eq!(report.round_trip.count, 1);
    assert!(report.exchange.max.abs_diff(7 * S) < S / 100);
}

#[test]
fn a_request_that_nobody_answers_ends_in_a_new_discover() {
    let mut sessions = sessions(&Plan {
        retry: true,
        ..plan(1)
    });
    let discover = sessions.begin(0).unwrap();
    sessions
        .receive(0, &reply(&discover, Kind::Offer), true)
        .unwrap();
    let mut now = 0;
    for _ in 0..4 {
        now += 70 * S;
        let said = expired(&mut sessions, now);
        assert!(
            matches!(
                said.as_slice(),
                [Message {
                    says: Says::Select { .. },
                    ..
                }]
            ),
            "{said:?}"
        );
    }
    let said = expired(&mut sessions, now + 70 * S);
    assert!(
        matches!(
            said.as_slice(),
            [Message {
                says: Says::Discover,
                ..
            }]
        ),
        "{said:?}"
    );
    assert_eq!(sessions.under_way(), 1);
}

#[test]
fn a_nak_loses_the_exchange_or_begins_it_again() {
    for retry in [false, true] {
        let mut sessions = sessions(&Plan { retry, ..plan(1) });
        let discover = sessions.begin(0).unwrap();
        let select = sessions
            .receive(1, &reply(&discover, Kind::Offer), true)
            .unwrap();
        let next = sessions.receive(2, &reply(&select, Kind::Nak), true);
        assert_eq!(
            next.map(|message| message.says),
            retry.then_some(Says::Discover)
        );
        assert_eq!(sessions.tally().counts.refused, 1);
        assert_eq!(sessions.under_way(), u64::from(retry));
        assert_eq!(sessions.tally().counts.lost, u64::from(!retry));
    }
}

#[test]
fn what_does_not_belong_is_counted_and_changes_nothing() {
    let mut sessions = sessions(&plan(4));
    let discover = sessions.begin(0).unwrap();
    let offer = reply(&discover, Kind::Offer);
    // Nobody's, another client's, another kind's.
    assert_eq!(
        sessions.receive(
            1,
            &Reply {
                xid: discover.xid + 100,
                ..offer
            },
            true
        ),
        None
    );
    assert_eq!(sessions.receive(1, &offer, false), None);
    assert_eq!(
        sessions.receive(1, &reply(&discover, Kind::Ack), true),
        None
    );
    let select = sessions.receive(1, &offer, true).unwrap();
    assert_eq!(sessions.receive(1, &offer, true), None);
    let other = Reply {
        address: SERVER,
        ..reply(&select, Kind::Ack)
    };
    assert_eq!(sessions.receive(1, &other, true), None);
    let counts = sessions.tally().counts;
    assert_eq!((counts.strange, counts.wrong, counts.duplicates), (1, 2, 2));
    assert_eq!((sessions.under_way(), counts.completed), (1, 0));
}

#[test]
fn an_exchange_for_which_no_client_is_idle_is_withheld() {
    let mut sessions = sessions(&plan(1));
    assert!(sessions.begin(0).is_some());
    assert!(sessions.begin(0).is_none());
    assert_eq!(
        (
            sessions.tally().counts.begun,
            sessions.tally().counts.withheld
        ),
        (1, 1)
    );
}

#[test]
fn once_means_once() {
    let mut sessions = sessions(&Plan {
        once: true,
        ..plan(2)
    });
    for now in 0..2 {
        let discover = sessions.begin(now).unwrap();
        assert!(!sessions.is_over());
        if now == 0 {
            let select = sessions
                .receive(now, &reply(&discover, Kind::Offer), true)
                .unwrap();
            sessions.receive(now, &reply(&select, Kind::Ack), true);
        }
    }
    assert!(sessions.begin(3).is_none());
    expired(&mut sessions, 10 * S);
    assert!(sessions.is_over());
    let counts = sessions.tally().counts;
    assert_eq!(
        (counts.begun, counts.completed, counts.lost, counts.withheld),
        (2, 1, 1, 0)
    );
}

#[test]
fn who_has_an_address_can_renew_it() {
    let mut sessions = sessions(&Plan {
        once: true,
        ..plan(2)
    });
    let discover = sessions.begin(0).unwrap();
    let select = sessions
        .receive(0, &reply(&discover, Kind::Offer), true)
        .unwrap();
    sessions.receive(0, &reply(&select, Kind::Ack), true);
    sessions.begin(0).unwrap();
    expired(&mut sessions, 10 * S);
    sessions.begin_again(Exchange::Renew, false).unwrap();
    let renew = sessions.begin(10 * S).unwrap();
    assert_eq!(
        renew.says,
        Says::Renew {
            address: ADDRESS,
            server: SERVER
        }
    );
    assert_ne!(renew.xid, discover.xid);
    sessions.receive(11 * S, &reply(&renew, Kind::Ack), true);
    // The one that never got an address.
    assert!(sessions.begin(12 * S).is_none());
    let counts = sessions.tally().counts;
    assert_eq!((counts.begun, counts.completed, counts.lost), (2, 1, 1));
}

#[test]
fn each_thread_has_its_own_clients_and_transactions() {
    let plan = Plan {
        threads: 2,
        ..plan(5)
    };
    let mut all = Vec::new();
    for thread in 0..2 {
        let mut sessions = Sessions::new(&plan, thread, 7).unwrap();
        while let Some(message) = sessions.begin(0) {
            assert_eq!(message.xid % 2, thread);
            assert_eq!(message.xid % MAX_CLIENTS, message.client);
            all.push(message.client);
        }
        let stranger = Message {
            xid: 1 - thread,
            ..sessions.clients_first()
        };
        assert_eq!(
            sessions.receive(0, &reply(&stranger, Kind::Offer), true),
            None
        );
        assert_eq!(sessions.tally().counts.strange, 1);
    }
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4]);
}

impl Sessions {
    fn clients_first(&self) -> Message {
        Message {
            client: self.thread,
            xid: 0,
            secs: 0,
            says: Says::Discover,
        }
    }
}
