//! The network between the nodes: who does not hear whom, and how slow a line is.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::delay::DelayLine;
use crate::netns::Namespace;

/// Where the clients stand.
const SWITCH_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// Most nodes of a cluster here.
const MAX_NODES: u8 = 100;

/// What a node's packet filter begins with: nobody is cut off. What comes from other nodes is counted.
const FILTER: &str = "table inet bench {
  set cut { type ipv4_addr; }
  counter lost { }
  counter peers { }
  chain hear {
    type filter hook input priority 0; policy accept;
    ip saddr @cut counter name lost drop;
    ip saddr 10.98.0.11-10.98.0.254 counter name peers;
  }
}
";

/// The switch and the nodes' hosts. Fields are dropped in this order.
#[derive(Debug)]
pub struct Network {
    /// Lines that are slow for now; they end before the namespaces do.
    delays: std::sync::Mutex<Vec<(usize, DelayLine)>>,
    hosts: Vec<Host>,
    switch: Namespace,
}

/// Where one node lives.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    address: Ipv4Addr,
    port: String,
}

impl Host {
    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Network {
    /// Makes the switch and `count` hosts on it.
    ///
    /// # Errors
    /// If the caller is not root, or `ip` or `nft` refuses.
    pub fn create(prefix: &str, count: usize) -> Result<Self> {
        let switch = Namespace::create(prefix, "switch")?;
        switch.run("ip", &["link", "add", "name", "br0", "type", "bridge"])?;
        switch.run("ip", &["link", "set", "dev", "br0", "up"])?;
        let own = format!("{SWITCH_ADDRESS}/24");
        switch.run("ip", &["address", "add", &own, "dev", "br0"])?;
        let mut network = Self {
            delays: std::sync::Mutex::default(),
            hosts: Vec::new(),
            switch,
        };
        for number in (1..=MAX_NODES).take(count) {
            let host = network.add_host(prefix, number)?;
            network.hosts.push(host);
        }
        if network.hosts.len() < count {
            bail!("a cluster here has at most {MAX_NODES} nodes");
        }
        Ok(network)
    }

    fn add_host(&self, prefix: &str, number: u8) -> Result<Host> {
        let namespace = Namespace::create(prefix, &format!("n{number}"))?;
        let address = address_of(number);
        let port = format!("port{number}");
        let mut pair = vec!["link", "add", "name", &port, "type", "veth"];
        pair.extend(["peer", "name", "eth0", "netns", namespace.name()]);
        self.switch.run("ip", &pair)?;
        let set = |words: &[&str]| self.switch.run("ip", words);
        set(&["link", "set", "dev", &port, "master", "br0"])?;
        set(&["link", "set", "dev", &port, "up"])?;
        namespace.run("ip", &["link", "set", "dev", "eth0", "up"])?;
        let own = format!("{address}/24");
        namespace.run("ip", &["address", "add", &own, "dev", "eth0"])?;
        namespace.nft(FILTER)?;
        Ok(Host {
            namespace,
            address,
            port,
        })
    }

    /// A host by its place.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn host(&self, index: usize) -> Result<&Host> {
        self.hosts
            .get(index)
            .with_context(|| format!("no host {index} on this switch"))
    }

    /// The namespace where clients are.
    #[must_use]
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// The file that stands for the namespace where clients are.
    #[must_use]
    pub fn switch_path(&self) -> PathBuf {
        self.switch.path()
    }

    /// From now on `to` hears nothing of what `from` sends; the other direction stays as it is.
    ///
    /// # Errors
    /// If the packet filter refuses.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<()> {
        let from = self.host(from)?.address;
        let to = &self.host(to)?.namespace;
        to.nft(&format!("add element inet bench cut {{ {from} }}\n"))
    }

    /// From now on none of `left` and none of `right` hear each other.
    ///
    /// # Errors
    /// If the packet filter refuses.
    pub fn cut(&self, left: &[usize], right: &[usize]) -> Result<()> {
        for one in left {
            for other in right {
                self.cut_one_way(*one, *other)?;
                self.cut_one_way(*other, *one)?;
            }
        }
        Ok(())
    }

    /// From now on `index` and all others do not hear each other.
    ///
    /// # Errors
    /// If the packet filter refuses.
    pub fn isolate(&self, index: usize) -> Result<()> {
        let others: Vec<usize> = (0..self.hosts.len()).filter(|at| *at != index).collect();
        self.cut(&[index], &others)
    }

    /// Everybody hears everybody again.
    ///
    /// # Errors
    /// If a packet filter refuses.
    pub fn heal(&self) -> Result<()> {
        for host in &self.hosts {
            host.namespace.nft("flush set inet bench cut\n")?;
        }
        Ok(())
    }

    /// Packets that a node has not heard because of a cut, so far.
    ///
    /// # Errors
    /// If the packet filter cannot be read.
    pub fn lost_packets(&self, index: usize) -> Result<u64> {
        Ok(self.counter(index, "lost")?.0)
    }

    /// Bytes that a node has heard from other nodes so far, with their IP headers; clients' are not among them.
    ///
    /// # Errors
    /// If the packet filter cannot be read.
    pub fn bytes_from_peers(&self, index: usize) -> Result<u64> {
        Ok(self.counter(index, "peers")?.1)
    }

    /// Packets and bytes of a counter.
    fn counter(&self, index: usize, name: &str) -> Result<(u64, u64)> {
        let namespace = &self.host(index)?.namespace;
        let text = namespace.run("nft", &["list", "counter", "inet", "bench", name])?;
        let after = |word: &str| {
            let mut words = text.split_whitespace().skip_while(|at| *at != word);
            words.nth(1)?.parse().ok()
        };
        after("packets")
            .zip(after("bytes"))
            .context("`nft list counter` shows no figures")
    }

    /// Whatever a node sends takes `rate` ("2mbit") from now on, at most a second's worth waiting; `None`: as fast as
    /// it can.
    ///
    /// # Errors
    /// If `tc` refuses.
    pub fn limit_rate(&self, index: usize, rate: Option<&str>) -> Result<()> {
        let namespace = &self.host(index)?.namespace;
        let Some(rate) = rate else {
            namespace.run("tc", &["qdisc", "del", "dev", "eth0", "root"])?;
            return Ok(());
        };
        let mut words = vec!["qdisc", "replace", "dev", "eth0", "root", "tbf"];
        words.extend(["rate", rate, "burst", "128kb", "latency", "1s"]);
        namespace.run("tc", &words)?;
        Ok(())
    }

    /// Every frame to and from a node takes so much longer from now on; zero: no longer than the kernel needs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn delay(&self, index: usize, one_way: std::time::Duration) -> Result<()> {
        let host = self.host(index)?;
        let mut delays = self
            .delays
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        delays.retain(|(at, _)| *at != index);
        if !one_way.is_zero() {
            let line = DelayLine::start(&self.switch, &host.namespace, &host.port, one_way)?;
            delays.push((index, line));
        }
        Ok(())
    }
}

/// Address of the node at a place; `None` beyond the last one that a cluster here can have.
#[must_use]
pub fn address(index: usize) -> Option<Ipv4Addr> {
    let number = u8::try_from(index).ok()?.checked_add(1)?;
    (number <= MAX_NODES).then(|| address_of(number))
}

fn address_of(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 98, 0, 10 + number)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::netns::unique_prefix;

    const PORT: u16 = 5000;

    /// Sends datagrams from one node to another until one arrives, or not.
    fn arrives(network: &Network, from: usize, to: usize) -> bool {
        let there = network.host(to).unwrap();
        let socket = there
            .namespace()
            .enter(|| UdpSocket::bind((there.address(), PORT)).unwrap())
            .unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let target = SocketAddr::from((there.address(), PORT));
        let here = network.host(from).unwrap();
        here.namespace()
            .enter(|| {
                let out = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
                out.send_to(b"hello", target).unwrap();
            })
            .unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    }

    #[test]
    #[ignore = "needs root: makes network namespaces"]
    fn a_cut_is_one_way_or_two_ways_and_heals() {
        let network = Network::create(&unique_prefix("cut"), 3).unwrap();
        assert!(arrives(&network, 0, 1) && arrives(&network, 1, 0));
        network.cut_one_way(0, 1).unwrap();
        assert!(!arrives(&network, 0, 1) && arrives(&network, 1, 0));
        assert!(network.lost_packets(1).unwrap() >= 1);
        network.isolate(2).unwrap();
        assert!(!arrives(&network, 0, 2) && !arrives(&network, 2, 1));
        network.heal().unwrap();
        assert!(arrives(&network, 0, 1) && arrives(&network, 2, 1));
        assert!(network.bytes_from_peers(1).unwrap() > 0);
    }

    #[test]
    #[ignore = "needs root: makes network namespaces"]
    fn a_line_is_as_slow_as_it_is_told_and_fast_again() {
        let network = Network::create(&unique_prefix("slow"), 2).unwrap();
        // Neighbours are known before anything is measured.
        assert!(arrives(&network, 0, 1));
        let one_way = Duration::from_millis(120);
        network.delay(1, one_way).unwrap();
        let began = Instant::now();
        assert!(arrives(&network, 0, 1));
        assert!(began.elapsed() >= one_way, "{:?}", began.elapsed());
        network.delay(1, Duration::ZERO).unwrap();
        assert!(arrives(&network, 0, 1));
        network.limit_rate(0, Some("1mbit")).unwrap();
        assert!(arrives(&network, 0, 1));
        network.limit_rate(0, None).unwrap();
    }
}
