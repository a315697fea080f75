//! The NAS of the bench against a server that is not ours: FreeRADIUS, which insists on signatures.

use std::time::Duration;

use nexus_testkit::netns::{Namespace, unique_prefix};
use nexus_testkit::process::Process;
use nexus_testkit::radclient::{AccessRequest, authenticate};

const CONFIG: &str = r#"
name = bench
logdir = ${confdir}
run_dir = ${confdir}
pidfile = ${confdir}/pid
libdir = /usr/lib/freeradius
modules {
    pap {
    }
}
client nas {
    ipaddr = 127.0.0.1
    secret = bench-secret
    require_message_authenticator = yes
}
server default {
    listen {
        type = auth
        ipaddr = 127.0.0.1
        port = 1812
    }
    authorize {
        if (&User-Name == "ada" && &Calling-Station-Id == "02:00:00:00:00:01") {
            update control {
                &Cleartext-Password := "lovelace"
            }
            update reply {
                &Framed-IP-Address := 10.1.2.3
                &Reply-Message := "%{NAS-Port-Id}"
            }
        }
        pap
    }
    authenticate {
        Auth-Type PAP {
            pap
        }
    }
}
"#;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn an_accept_a_reject_and_silence_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let namespace = Namespace::create(&unique_prefix("rad"), "nas").unwrap();
    std::fs::write(directory.path().join("radiusd.conf"), CONFIG).unwrap();
    let mut freeradius = namespace.command("freeradius");
    freeradius
        .args(["-f", "-l", "stdout", "-n", "radiusd", "-d"])
        .arg(directory.path());
    let log = directory.path().join("log");
    let mut freeradius = Process::spawn("freeradius", &mut freeradius, &log).unwrap();
    freeradius
        .wait_for_line("Ready to process", Duration::from_secs(30))
        .unwrap();

    let mac = [2, 0, 0, 0, 0, 1];
    let ask = |password: &str, secret: &str, signed: bool| {
        let mut request = AccessRequest::new("ada", password, mac, "olt 1/1:200.30");
        request.signed = signed;
        authenticate(&namespace, "127.0.0.1:1812", secret, &request).unwrap()
    };
    let accept = ask("lovelace", "bench-secret", true);
    assert_eq!(accept.kind, "Access-Accept", "{}", accept.output);
    assert_eq!(accept.get("Framed-IP-Address"), Some("10.1.2.3"));
    assert_eq!(accept.get("Reply-Message"), Some("olt 1/1:200.30"));
    assert_eq!(ask("a guess", "bench-secret", true).kind, "Access-Reject");
    // Silence takes its time: both at once.
    std::thread::scope(|scope| {
        let other_secret = scope.spawn(|| ask("lovelace", "another-secret", true));
        assert_eq!(ask("lovelace", "bench-secret", false).kind, "", "unsigned");
        assert_eq!(other_secret.join().unwrap().kind, "", "another secret");
    });
}
