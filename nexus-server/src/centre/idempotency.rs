//! Idempotency keys: the same request with the same key gets the answer that it got first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;

use super::CentralRequest;
use crate::allocation::{Allocation, RowError};
use crate::refused::Refused;

/// First part of the CLSet key of every idempotency key: a repeat may come to another server.
pub const KEYS_PREFIX: &str = "/idempotency/";
/// How long a key is remembered.
pub const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Most keys that are remembered; the oldest go first.
const MAX_KEYS: usize = 100_000;

/// All keys that are remembered, and what they were answered.
#[derive(Debug, Default)]
pub struct Keys {
    by_key: BTreeMap<String, Entry>,
    by_age: BTreeSet<(i64, String)>,
}

#[derive(Debug)]
struct Entry {
    fingerprint: [u8; 32],
    at_ms: i64,
    answer: Arc<Allocation>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(bytes = "vec", tag = "1")]
    fingerprint: Vec<u8>,
    #[prost(int64, tag = "2")]
    at_ms: i64,
    #[prost(string, tag = "3")]
    allocation_key: String,
    #[prost(bytes = "vec", tag = "4")]
    allocation: Vec<u8>,
}

/// What makes two requests the same.
pub fn fingerprint(request: &CentralRequest) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text.as_bytes());
    };
    add(request.pool.as_str());
    add(request.subscriber.as_str());
    add(request.olt.as_ref().map_or("", |olt| olt.as_str()));
    for (key, value) in &request.metadata {
        add(key);
        add(value);
    }
    *hasher.finalize().as_bytes()
}

impl Keys {
    /// The answer that a key got; `None` if it is new.
    ///
    /// # Errors
    /// [`Refused::KeyReused`] if it came with another request.
    pub fn answer(
        &self,
        key: &str,
        fingerprint: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Arc<Allocation>>, Refused> {
        match self.by_key.get(key) {
            Some(entry) if is_over(entry.at_ms, now) => Ok(None),
            Some(entry) if entry.fingerprint == *fingerprint => Ok(Some(Arc::clone(&entry.answer))),
            Some(_) => Err(Refused::KeyReused),
            None => Ok(None),
        }
    }

    /// The value under which an answer is remembered.
    #[must_use]
    pub fn value(fingerprint: [u8; 32], answer: &Allocation, now: Timestamp) -> Vec<u8> {
        Row {
            fingerprint: fingerprint.to_vec(),
            at_ms: now.as_millisecond(),
            allocation_key: answer.place.key(),
            allocation: answer.encode(),
        }
        .encode_to_vec()
    }

    /// At most `limit` keys that are over, or more than are remembered, the oldest first.
    #[must_use]
    pub fn over(&self, now: Timestamp, limit: usize) -> Vec<String> {
        let too_many = self.by_key.len().saturating_sub(MAX_KEYS);
        self.by_age
            .iter()
            .enumerate()
            .take_while(|(n, (at, _))| *n < too_many || is_over(*at, now))
            .take(limit)
            .map(|(_, (_, key))| key.clone())
            .collect()
    }

    /// Takes over what stands in the CLSet under a key: its value, or that it is gone.
    ///
    /// # Errors
    /// If it is not what [`Keys::value`] makes.
    pub fn changed(&mut self, key: String, value: Option<&[u8]>) -> Result<(), RowError> {
        let Some(value) = value else {
            if let Some(old) = self.by_key.remove(&key) {
                self.by_age.remove(&(old.at_ms, key));
            }
            return Ok(());
        };
        let unreadable = |problem: String| RowError::new(format!("idempotency key {key}"), problem);
        let row = Row::decode(value).map_err(|error| unreadable(error.to_string()))?;
        let fingerprint: [u8; 32] = row
            .fingerprint
            .try_into()
            .map_err(|_| unreadable("its fingerprint has not 32 bytes".to_owned()))?;
        let answer = Arc::new(Allocation::decode(&row.allocation_key, &row.allocation)?);
        let entry = Entry {
            fingerprint,
            at_ms: row.at_ms,
            answer,
        };
        self.insert(key, entry);
        Ok(())
    }

    fn insert(&mut self, key: String, entry: Entry) {
        let at = entry.at_ms;
        if let Some(old) = self.by_key.insert(key.clone(), entry) {
            self.by_age.remove(&(old.at_ms, key.clone()));
        }
        self.by_age.insert((at, key));
    }
}

fn is_over(at_ms: i64, now: Timestamp) -> bool {
    let life = i64::try_from(KEY_LIFE.as_millis()).unwrap_or(i64::MAX);
    now.as_millisecond().saturating_sub(at_ms) > life
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::tests::example;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn a_key_gets_its_first_answer_until_it_is_over() {
        let mut keys = Keys::default();
        let answer = Arc::new(example("s", "p", "10.0.0.1"));
        let value = Keys::value([1; 32], &answer, at(1000));
        keys.changed("k".into(), Some(&value)).unwrap();
        assert_eq!(
            keys.answer("k", &[1; 32], at(2000)),
            Ok(Some(Arc::clone(&answer)))
        );
        assert_eq!(
            keys.answer("k", &[2; 32], at(2000)),
            Err(Refused::KeyReused)
        );
        assert_eq!(keys.answer("other", &[2; 32], at(2000)), Ok(None));

        let later = at(1000 + 24 * 3600 * 1000 + 1);
        assert_eq!(keys.answer("k", &[2; 32], later), Ok(None));
        assert_eq!(keys.over(at(2000), 10), Vec::<String>::new());
        assert_eq!(keys.over(later, 10), ["k".to_owned()]);
        keys.changed("k".into(), None).unwrap();
        assert!(keys.by_key.is_empty() && keys.by_age.is_empty());
    }

    #[test]
    fn a_row_that_cannot_be_read_is_refused() {
        assert!(Keys::default().changed("k".into(), Some(b"\xff")).is_err());
        assert!(Keys::default().changed("k".into(), Some(&[])).is_err());
    }
}
