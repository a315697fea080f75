//! Entries in the store of a server that is stopped, as a server with a fault could have written them.

use std::path::Path;
use std::time::SystemTime;

use nexus_clset::{Fence, NodeId, Replica, UnixMillis};
use nexus_store::{Batch, Options, ReplicaRows, Store};

/// Puts what stands on record under one key under another one too. `data`: where its storage lies.
pub fn copy_entry(data: &Path, from: &str, to: &str, fence: Fence) {
    let identity = std::fs::read(data.join("identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
    let number = u32::try_from(identity["number"].as_u64().unwrap()).unwrap();
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = UnixMillis(u64::try_from(since.as_millis()).unwrap());
    let store = Store::open(&data.join("store"), Options::default()).unwrap();
    let rows = ReplicaRows::from(store.clone());
    let (mut replica, boot) = Replica::open(rows, NodeId(number), now).unwrap();
    store.commit_blocking(Batch::from(&boot)).unwrap();
    replica.settle(boot.ticket);
    let value = replica.get(from.as_bytes()).unwrap().unwrap();
    let change = replica.put(to.as_bytes(), &value, fence, now);
    store
        .commit_blocking(Batch::from(&change.unwrap()))
        .unwrap();
    drop(replica);
    store.flush_and_close().unwrap();
}
