//! Idempotency keys: the same request with the same key gets the answer that it got first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;

use super::CentralRequest;
use super::effects::{KEY_ROWS, Write};
use crate::allocation::{Allocation, RowError};
use crate::refused::Refused;

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

    /// Remembers an answer. Gives the rows to write.
    pub fn remember(
        &mut self,
        key: String,
        fingerprint: [u8; 32],
        answer: &Arc<Allocation>,
        now: Timestamp,
    ) -> Vec<Write> {
        let at_ms = now.as_millisecond();
        let row = Row {
            fingerprint: fingerprint.to_vec(),
            at_ms,
            allocation_key: answer.place.key(),
            allocation: answer.encode(),
        };
        let mut writes = vec![Write {
            kind: KEY_ROWS,
            key: key.clone().into_bytes(),
            value: Some(row.encode_to_vec()),
        }];
        let entry = Entry {
            fingerprint,
            at_ms,
            answer: Arc::clone(answer),
        };
        self.insert(key, entry);
        while self.by_key.len() > MAX_KEYS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_key.remove(&oldest);
            writes.push(forget(oldest));
        }
        writes
    }

    /// Forgets at most `limit` keys that are over. Gives the rows to write.
    pub fn expire(&mut self, now: Timestamp, limit: usize) -> Vec<Write> {
        let over: Vec<(i64, String)> = self
            .by_age
            .iter()
            .take_while(|(at, _)| is_over(*at, now))
            .take(limit)
            .cloned()
            .collect();
        over.into_iter()
            .map(|entry| {
                self.by_age.remove(&entry);
                self.by_key.remove(&entry.1);
                forget(entry.1)
            })
            .collect()
    }

    /// Takes up a row of the store.
    ///
    /// # Errors
    /// If it is not what [`Keys::remember`] wrote.
    pub fn restore(&mut self, key: String, value: &[u8]) -> Result<(), RowError> {
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

fn forget(key: String) -> Write {
    Write {
        kind: KEY_ROWS,
        key: key.into_bytes(),
        value: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::tests::example;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn a_key_gets_its_first_answer_until_it_is_over_and_survives_a_restart() {
        let mut keys = Keys::default();
        let answer = Arc::new(example("s", "p", "10.0.0.1"));
        let writes = keys.remember("k".into(), [1; 32], &answer, at(1000));
        assert_eq!(
            keys.answer("k", &[1; 32], at(2000)),
            Ok(Some(Arc::clone(&answer)))
        );
        assert_eq!(
            keys.answer("k", &[2; 32], at(2000)),
            Err(Refused::KeyReused)
        );
        assert_eq!(keys.answer("other", &[2; 32], at(2000)), Ok(None));

        let mut again = Keys::default();
        again
            .restore("k".into(), writes[0].value.as_ref().unwrap())
            .unwrap();
        assert_eq!(again.answer("k", &[1; 32], at(2000)), Ok(Some(answer)));
        let later = at(1000 + 24 * 3600 * 1000 + 1);
        assert_eq!(again.answer("k", &[2; 32], later), Ok(None));
        assert_eq!(again.expire(later, 10), vec![forget("k".into())]);
        assert_eq!(again.by_key.len(), 0);
    }

    #[test]
    fn a_row_that_cannot_be_read_is_refused() {
        assert!(Keys::default().restore("k".into(), b"\xff").is_err());
        assert!(Keys::default().restore("k".into(), &[]).is_err());
    }
}
