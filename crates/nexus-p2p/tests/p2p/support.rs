//! Nodes for tests, and waiting for what must come to pass.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nexus_p2p::{ClusterKey, Event, Hello, Link, Options, P2pError, PeerAddress, PeerInfo, Reason};
use tokio::sync::mpsc;

/// Far more than anything here takes on a quiet machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running link and what it told so far.
pub struct Node {
    pub link: Link,
    pub events: mpsc::Receiver<Event>,
    pub seen: Vec<Event>,
    pub options: Options,
    room: Option<tempfile::TempDir>,
}

/// Options of a node with this number in a room of its own.
pub fn options(room: &tempfile::TempDir, key: &ClusterKey, number: u32) -> Options {
    Options {
        hello: Hello {
            number,
            name: format!("node-{number}"),
            role: "core".to_owned(),
            versions: 1..=1,
            extra: Vec::new(),
        },
        key_file: room.path().join("node.key"),
        cluster_key: key.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        bootstrap: Vec::new(),
        allowed_peers: Vec::new(),
        topic: "test".to_owned(),
        advertise: Vec::new(),
        channels: vec![1, 2],
    }
}

impl Node {
    /// Starts a node; `change` may change its options.
    pub async fn start(key: &ClusterKey, number: u32, change: impl FnOnce(&mut Options)) -> Self {
        let room = tempfile::tempdir().unwrap();
        let mut options = options(&room, key, number);
        change(&mut options);
        Self::with(options, Some(room)).await.unwrap()
    }

    pub async fn with(options: Options, room: Option<tempfile::TempDir>) -> Result<Self, P2pError> {
        let (link, events) = Link::start(options.clone()).await?;
        Ok(Self {
            link,
            events,
            seen: Vec::new(),
            options,
            room,
        })
    }

    /// Stops it and starts it again with the same key file.
    pub async fn restart(self, change: impl FnOnce(&mut Options)) -> Self {
        let Self {
            link,
            mut options,
            room,
            ..
        } = self;
        link.stop().await;
        change(&mut options);
        let end = Instant::now() + DEADLINE;
        loop {
            match Link::start(options.clone()).await {
                Ok((link, events)) => {
                    return Self {
                        link,
                        events,
                        seen: Vec::new(),
                        options,
                        room,
                    };
                }
                // The task of the QUIC socket gives its port back a moment after the rest.
                Err(P2pError::Listen { .. }) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn number(&self) -> u32 {
        self.options.hello.number
    }

    pub fn id(&self) -> String {
        self.link.peer_id().to_owned()
    }

    /// Its TCP address.
    pub fn tcp(&self) -> String {
        self.address("/tcp/")
    }

    /// Its QUIC address.
    pub fn quic(&self) -> String {
        self.address("/quic-v1")
    }

    fn address(&self, with: &str) -> String {
        let addresses = self.link.addresses();
        addresses
            .into_iter()
            .find(|address| address.contains(with))
            .unwrap()
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.tcp().split('/').nth(4).unwrap().parse().unwrap()
    }

    pub fn as_member(&self, addresses: Vec<String>) -> PeerAddress {
        PeerAddress {
            number: self.number(),
            peer_id: self.id(),
            addresses,
        }
    }

    /// Waits for an event, keeping the others in `seen`, and drops what is asked on the way.
    pub async fn wait<T>(&mut self, what: &str, mut find: impl FnMut(&Event) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some(event)) => {
                    let found = find(&event);
                    self.seen.push(event);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Ok(None) => panic!("{}: the link ended before: {what}", self.number()),
                Err(_) => panic!(
                    "{}: not in time: {what}; seen: {:#?}; counters: {:#?}",
                    self.number(),
                    self.seen,
                    self.link.counters()
                ),
            }
        }
    }

    pub async fn up(&mut self, number: u32) -> PeerInfo {
        self.wait(&format!("{number} is up"), |event| match event {
            Event::Up(info) if info.number == number => Some(info.clone()),
            _ => None,
        })
        .await
    }

    pub async fn down(&mut self, number: u32) -> String {
        self.wait(&format!("{number} is down"), |event| match event {
            Event::Down {
                number: down, why, ..
            } if *down == number => Some(why.clone()),
            _ => None,
        })
        .await
    }

    pub async fn refused(&mut self, reason: Reason) -> String {
        self.wait(
            &format!("somebody is refused: {reason}"),
            |event| match event {
                Event::Refused {
                    reason: why,
                    why: word,
                    ..
                } if *why == reason => Some(word.clone()),
                _ => None,
            },
        )
        .await
    }

    pub async fn gossip(&mut self, wanted: &[u8]) -> u32 {
        let wanted = wanted.to_vec();
        self.wait("a message", move |event| match event {
            Event::Gossip { from, bytes } if *bytes == wanted => Some(*from),
            _ => None,
        })
        .await
    }

    /// Answers all questions from now on with what was asked, in reverse.
    pub fn answering(mut self) -> Answering {
        let link = self.link.clone();
        let task = tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                if let Event::Asked {
                    mut bytes, answer, ..
                } = event
                {
                    bytes.reverse();
                    answer.send(bytes);
                }
            }
        });
        Answering { link, task }
    }

    /// All events so far and those that are waiting, without gossip and questions.
    pub fn told(&mut self) -> &[Event] {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        &self.seen
    }
}

/// A node that answers by itself.
pub struct Answering {
    pub link: Link,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until it is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A node, and a second one that knows the first one's address.
pub async fn pair(key: &ClusterKey) -> (Node, Node) {
    let mut one = Node::start(key, 1, |_| {}).await;
    let address = one.tcp();
    let mut two = Node::start(key, 2, |options| options.bootstrap = vec![address]).await;
    one.up(2).await;
    two.up(1).await;
    (one, two)
}

/// A file in a room.
pub fn path_in(room: &tempfile::TempDir, name: &str) -> PathBuf {
    room.path().join(name)
}
