//! RADIUS through AAA servers: real FreeRADIUS behind, `radclient` in front.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use crate::support::{ADDRESS, PATIENCE, Radius, SECRET};
use nexus_core::id::PoolId;
use nexus_testkit::process::Process;

const UPSTREAM_SECRET: &str = "upstream-secret";

const USERS: &str = r#"
alice Cleartext-Password := "wonderland"
	Class := 0x676f6c64,
	Session-Timeout := 3600,
	Filter-Id := "gold",
	Framed-IP-Netmask := 255.255.255.255,
	Reply-Message := "welcome"

bob Cleartext-Password := "builder"
	Framed-Pool := "business-ipv4"

carol Cleartext-Password := "static"
	Framed-IP-Address := 192.0.2.55

dave Cleartext-Password := "nas-choice"
	Framed-IP-Address := 255.255.255.254

eve Cleartext-Password := "challenge"
	State := 0x73746174,
	Reply-Message := "one more thing"
"#;

/// FreeRADIUS in a directory of its own on two loopback ports: on the second its replies have no
/// Message-Authenticator.
struct FreeRadius {
    signing: u16,
    unsigned: u16,
    process: Process,
    _dir: tempfile::TempDir,
}

impl FreeRadius {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let [signing, unsigned] = free_ports();
        std::fs::write(path.join("users"), USERS).unwrap();
        std::fs::write(path.join("radiusd.conf"), config(path, signing, unsigned)).unwrap();
        let mut command = Command::new("freeradius");
        command.arg("-X").arg("-d").arg(path);
        let mut process = Process::spawn("freeradius", &mut command, &path.join("log")).unwrap();
        process
            .wait_for_line("Ready to process requests", PATIENCE)
            .unwrap();
        Self {
            signing,
            unsigned,
            process,
            _dir: dir,
        }
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn config(dir: &Path, signing: u16, unsigned: u16) -> String {
    let dir = dir.display();
    format!(
        r#"
prefix = /usr
logdir = {dir}
raddbdir = {dir}
confdir = {dir}
modconfdir = {dir}
certdir = {dir}
cadir = {dir}
run_dir = {dir}
db_dir = {dir}
libdir = /usr/lib/freeradius
pidfile = {dir}/pid
max_request_time = 5
cleanup_delay = 2
max_requests = 1024
hostname_lookups = no
log {{
	destination = stdout
}}
security {{
	max_attributes = 200
	reject_delay = 0
	status_server = yes
}}
proxy_requests = no
client sidecar {{
	ipaddr = 127.0.0.1
	secret = {UPSTREAM_SECRET}
	require_message_authenticator = yes
}}
modules {{
	pap {{
	}}
	chap {{
	}}
	always handled {{
		rcode = handled
	}}
	files {{
		filename = {dir}/users
	}}
}}
server signing {{
	listen {{
		type = auth
		ipaddr = 127.0.0.1
		port = {signing}
	}}
	authorize {{
		files
		chap
		pap
	}}
	authenticate {{
		Auth-Type PAP {{
			pap
			if (&User-Name == "eve") {{
				update control {{
					&Response-Packet-Type := Access-Challenge
				}}
				update reply {{
					&Message-Authenticator := 0x00
				}}
				handled
			}}
		}}
		Auth-Type CHAP {{
			chap
		}}
	}}
	post-auth {{
		update reply {{
			&Message-Authenticator := 0x00
		}}
		Post-Auth-Type REJECT {{
			update reply {{
				&Message-Authenticator := 0x00
			}}
		}}
	}}
}}
server unsigned {{
	listen {{
		type = auth
		ipaddr = 127.0.0.1
		port = {unsigned}
	}}
	authorize {{
		files
		chap
		pap
	}}
	authenticate {{
		Auth-Type PAP {{
			pap
		}}
		Auth-Type CHAP {{
			chap
		}}
	}}
}}
"#
    )
}

/// Towards these servers: port and whatever else shall stand there.
fn start(servers: &[(u16, &str)], more: &str) -> Radius {
    let rows = servers.iter().map(|(port, more)| {
        format!("  - {{address: '127.0.0.1:{port}', secret: {UPSTREAM_SECRET}{more}}}\n")
    });
    let rows: String = rows.collect();
    let clients = format!("clients: [{{address: 127.0.0.1, secret: {SECRET}}}]");
    Radius::start(&format!(
        "{clients}\nupstream:\n  servers:\n{rows}  timeout: 500ms\n{more}"
    ))
}

fn pap(user: &str, password: &str) -> String {
    format!(
        "User-Name = \"{user}\"\nUser-Password = \"{password}\"\n\
         Calling-Station-Id = \"0200.0000.0001\"\nNAS-Port-Id = \"pon-1:100\"\n\
         Message-Authenticator = 0x00\n"
    )
}

/// What `radclient` printed of the reply.
#[track_caller]
fn reply(output: &str) -> &str {
    let at = output
        .find("Received ")
        .unwrap_or_else(|| panic!("no reply: {output}"));
    &output[at..]
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn an_accept_is_passed_on_with_the_address_of_the_edge() {
    let upstream = FreeRadius::start();
    let radius = start(&[(upstream.signing, "")], "");
    let lines = pap("alice", "wonderland") + "Proxy-State = 0x6131\nProxy-State = 0x6232\n";
    let output = radius.radclient(SECRET, "5", &lines);
    let reply = reply(&output);
    assert!(
        reply.contains("Received Access-Accept"),
        "{output}\n{}",
        upstream.process.log()
    );
    for line in [
        &format!("Framed-IP-Address = {ADDRESS}"),
        "Framed-IP-Netmask = 255.192.0.0",
        "Class = 0x676f6c64",
        "Session-Timeout = 3600",
        "Filter-Id = \"gold\"",
        "Reply-Message = \"welcome\"",
    ] {
        assert_eq!(reply.matches(line).count(), 1, "{line}: {output}");
    }
    assert_eq!(reply.matches("Framed-IP-Netmask").count(), 1, "{output}");
    let states: Vec<&str> = reply
        .lines()
        .filter(|line| line.contains("Proxy-State"))
        .collect();
    assert_eq!(
        states,
        ["\tProxy-State = 0x6131", "\tProxy-State = 0x6232"],
        "{output}"
    );
    assert_eq!(radius.asked()[0].vlans, Some((100, 0)));

    for (ends, session_timeout) in [(86_400, 3600), (600, 600)] {
        radius.end_bindings_in(ends);
        let output = radius.radclient(SECRET, "5", &pap("alice", "wonderland"));
        let line = format!("Session-Timeout = {session_timeout}\n");
        assert_eq!(output.matches(&line).count(), 1, "{output}");
        assert_eq!(output.matches("Session-Timeout").count(), 1, "{output}");
    }
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn chap_is_carried_with_its_challenge() {
    let upstream = FreeRadius::start();
    let radius = start(&[(upstream.signing, "")], "");
    let chap = pap("alice", "wonderland").replace("User-Password", "CHAP-Password");
    let output = radius.radclient(SECRET, "5", &chap);
    assert!(
        output.contains("Received Access-Accept"),
        "{output}\n{}",
        upstream.process.log()
    );
    let with_challenge = chap.clone() + "CHAP-Challenge = 0x0102030405060708090a0b0c0d0e0f10\n";
    let output = radius.radclient(SECRET, "5", &with_challenge);
    assert!(output.contains("Received Access-Accept"), "{output}");
    let output = radius.radclient(SECRET, "5", &chap.replace("wonderland", "burrow"));
    assert!(output.contains("Received Access-Reject"), "{output}");
    assert_eq!(radius.asked().len(), 2);
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn a_long_password_is_hidden_anew_and_a_wrong_one_rejected() {
    let upstream = FreeRadius::start();
    let radius = start(&[(upstream.signing, "")], "");
    for (user, password) in [("alice", "wrong"), ("nobody", "wonderland")] {
        let output = radius.radclient(SECRET, "5", &pap(user, password));
        assert!(output.contains("Received Access-Reject"), "{output}");
    }
    assert!(radius.asked().is_empty());
    assert_eq!(radius.counters()["reject"], 2);
    let log = upstream.process.log();
    assert!(!log.contains("invalid Message-Authenticator"), "{log}");
    let long = "a password of more than sixteen octets, and of more than thirty-two";
    radius.radclient(SECRET, "5", &pap("alice", long));
    upstream_saw(&upstream, &format!("User-Password = \"{long}\""));
}

fn upstream_saw(upstream: &FreeRadius, text: &str) {
    let log = upstream.process.log();
    assert!(
        log.contains(text),
        "{text} is not in the log of freeradius:\n{log}"
    );
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn framed_pool_chooses_the_pool_and_is_not_passed_on() {
    let upstream = FreeRadius::start();
    let radius = start(&[(upstream.signing, "")], "default_pool: residential-ipv4");
    let output = radius.radclient(SECRET, "5", &pap("bob", "builder"));
    assert!(output.contains("Received Access-Accept"), "{output}");
    assert!(!output.contains("Framed-Pool"), "{output}");
    radius.radclient(SECRET, "5", &pap("alice", "wonderland"));
    let asked = radius.asked().into_iter();
    let pools: Vec<_> = asked
        .map(|asked| (asked.pool, asked.default_pool))
        .collect();
    let named = |name| Some(PoolId::new(name).unwrap());
    let default = named("residential-ipv4");
    // The pool of an interface, if it has one, stands between the two.
    assert_eq!(
        pools,
        [(named("business-ipv4"), default.clone()), (None, default)]
    );
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn a_static_address_is_rejected_with_the_reason_and_a_free_choice_is_not() {
    let upstream = FreeRadius::start();
    let radius = start(&[(upstream.signing, "")], "");
    let output = radius.radclient(SECRET, "5", &pap("carol", "static"));
    assert!(output.contains("Received Access-Reject"), "{output}");
    assert!(
        output.contains("static Framed-IP-Address 192.0.2.55"),
        "{output}"
    );
    assert_eq!(radius.counters()["static-address"], 1);
    assert!(radius.asked().is_empty());
    let output = radius.radclient(SECRET, "5", &pap("dave", "nas-choice"));
    assert!(
        output.contains(&format!("Framed-IP-Address = {ADDRESS}")),
        "{output}"
    );
    assert!(!output.contains("255.255.255.254"), "{output}");
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn a_challenge_is_passed_on_with_its_state() {
    let upstream = FreeRadius::start();
    let radius = start(&[(upstream.signing, "")], "");
    let output = radius.radclient(SECRET, "5", &pap("eve", "challenge"));
    let reply = reply(&output);
    assert!(
        reply.contains("Received Access-Challenge"),
        "{output}\n{}",
        upstream.process.log()
    );
    assert!(reply.contains("State = 0x73746174"), "{output}");
    assert!(radius.asked().is_empty());
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn a_silent_server_is_passed_over_and_then_tried_last() {
    let upstream = FreeRadius::start();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let radius = start(&[(port, ""), (upstream.signing, "")], "");
    let output = radius.radclient(SECRET, "10", &pap("alice", "wonderland"));
    assert!(output.contains("Received Access-Accept"), "{output}");
    // Two datagrams to the silent one, one to the other.
    assert_eq!(radius.counters()["upstream-sent"], 3);
    let output = radius.radclient(SECRET, "10", &pap("alice", "wonderland"));
    assert!(output.contains("Received Access-Accept"), "{output}");
    assert_eq!(radius.counters()["upstream-sent"], 4);
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn a_closed_port_is_passed_over_like_a_silent_server() {
    let upstream = FreeRadius::start();
    let [closed, _] = free_ports();
    let radius = start(&[(closed, ""), (upstream.signing, "")], "");
    let output = radius.radclient(SECRET, "10", &pap("alice", "wonderland"));
    assert!(output.contains("Received Access-Accept"), "{output}");
}

#[test]
#[ignore = "needs radclient (Debian freeradius-utils)"]
fn without_any_answer_upstream_the_nas_gets_none_either() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let radius = start(&[(silent.local_addr().unwrap().port(), "")], "");
    let output = radius.radclient(SECRET, "0.5", &pap("alice", "wonderland"));
    assert!(output.contains("No reply from server"), "{output}");
    radius.wait_for("upstream-no-answer", 1);
    assert!(radius.asked().is_empty());
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn a_reply_without_message_authenticator_is_not_believed_unless_the_server_is_let_off() {
    let upstream = FreeRadius::start();
    let radius = start(&[(upstream.unsigned, "")], "");
    radius.radclient(SECRET, "0.5", &pap("alice", "wonderland"));
    radius.wait_for("upstream-no-answer", 1);
    assert!(radius.counters()["upstream-missing-message-authenticator"] >= 1);
    assert!(radius.asked().is_empty());

    let lax = start(
        &[(upstream.unsigned, ", require_message_authenticator: false")],
        "",
    );
    let output = lax.radclient(SECRET, "5", &pap("alice", "wonderland"));
    assert!(output.contains("Received Access-Accept"), "{output}");
}

#[test]
#[ignore = "needs freeradius and radclient (Debian freeradius, freeradius-utils)"]
fn a_wrong_upstream_secret_is_no_answer_and_no_access() {
    let upstream = FreeRadius::start();
    let wrong = format!(
        "clients: [{{address: 127.0.0.1, secret: {SECRET}}}]\nupstream:\n  \
        servers: [{{address: '127.0.0.1:{}', secret: guessed}}]\n  timeout: 200ms\n",
        upstream.signing
    );
    let radius = Radius::start(&wrong);
    let output = radius.radclient(SECRET, "0.5", &pap("alice", "wonderland"));
    assert!(output.contains("No reply from server"), "{output}");
    radius.wait_for("upstream-no-answer", 1);
    assert!(radius.asked().is_empty());
}
