//! AAA servers: one that a test plays, so that it knows what was asked, and FreeRADIUS.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nexus_radius::authenticator::sign_reply;
use nexus_radius::{AttributeId, Attributes, Code, Packet, Secret};
use nexus_testkit::command::SHORT;
use nexus_testkit::netns::Namespace;
use nexus_testkit::process::Process;

/// Shared with the sidecar.
pub const SECRET: &str = "aaa-secret";
/// Where it listens, in the OLT's namespace.
pub const PORT: u16 = 11_812;

/// What the played server says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Accept,
    Reject,
    /// Nothing, until it is told otherwise.
    Nothing,
}

/// A server that the test plays.
pub struct Played {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    socket: UdpSocket,
    says: Mutex<Says>,
    asked: Mutex<Vec<(SocketAddr, Packet)>>,
    stop: AtomicBool,
}

impl Played {
    pub fn start(olt: &Namespace, says: Says) -> Self {
        let socket = olt.enter(|| UdpSocket::bind(("127.0.0.1", PORT))).unwrap();
        let socket = socket.unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let inner = Arc::new(Inner {
            socket,
            says: Mutex::new(says),
            asked: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let thread = Arc::clone(&inner);
        Self {
            inner,
            thread: Some(std::thread::spawn(move || thread.serve())),
        }
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Attributes> {
        let asked = self.inner.asked.lock().unwrap();
        asked
            .iter()
            .map(|(_, packet)| packet.attributes.clone())
            .collect()
    }

    /// Says this to everything from now on, and to the last request.
    pub fn says(&self, says: Says) {
        *self.inner.says.lock().unwrap() = says;
        let last = self.inner.asked.lock().unwrap().last().cloned();
        if let Some((from, packet)) = last {
            self.inner.answer(from, &packet);
        }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

impl Inner {
    fn serve(&self) {
        let mut buffer = [0; 4096];
        while !self.stop.load(Ordering::Relaxed) {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    let packet = Packet::decode(&buffer[..len]).unwrap();
                    self.asked.lock().unwrap().push((from, packet.clone()));
                    self.answer(from, &packet);
                }
                // The sidecar has gone: the kernel says so.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    fn answer(&self, to: SocketAddr, request: &Packet) {
        let code = match *self.says.lock().unwrap() {
            Says::Accept => Code::ACCESS_ACCEPT,
            Says::Reject => Code::ACCESS_REJECT,
            Says::Nothing => return,
        };
        let reply = sign_reply(
            code,
            request.identifier,
            &request.authenticator,
            &Attributes::new(),
            &Secret::new(SECRET).unwrap(),
        );
        self.socket.send_to(&reply.unwrap(), to).unwrap();
    }
}

/// What a request says under a name.
pub fn text(request: &Attributes, id: AttributeId) -> &str {
    request.text(id).unwrap()
}

/// FreeRADIUS in the OLT's namespace, with these entries of its users file.
pub fn free_radius(olt: &Namespace, directory: &Path, users: &str) -> Process {
    let path = directory.join("freeradius");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("users"), users).unwrap();
    std::fs::write(path.join("radiusd.conf"), config(&path)).unwrap();
    let mut command = olt.command("freeradius");
    command.arg("-X").arg("-d").arg(&path);
    let mut process = Process::spawn("freeradius", &mut command, &path.join("log")).unwrap();
    process
        .wait_for_line("Ready to process requests", SHORT)
        .unwrap();
    process
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r"
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
max_requests = 1024
hostname_lookups = no
proxy_requests = no
log {{
	destination = stdout
}}
security {{
	reject_delay = 0
}}
client sidecar {{
	ipaddr = 127.0.0.1
	secret = {SECRET}
	require_message_authenticator = yes
}}
modules {{
	pap {{
	}}
	files {{
		filename = {dir}/users
	}}
}}
server ipoe {{
	listen {{
		type = auth
		ipaddr = 127.0.0.1
		port = {PORT}
	}}
	authorize {{
		files
		pap
	}}
	authenticate {{
		Auth-Type PAP {{
			pap
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
"
    )
}
