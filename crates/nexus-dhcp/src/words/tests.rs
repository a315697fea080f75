//! Runs of every length, in the middle of a frame and at its very end.

use std::vec::Vec;

use super::*;
use crate::packet::Bytes;

/// The words of a run, put together again.
struct Taken(Vec<u8>);

impl Sink for Taken {
    fn take(&mut self, index: usize, word: u64) {
        assert_eq!(index * 8, self.0.len());
        self.0.extend(word.to_ne_bytes());
    }
}

/// What a run of `len` bytes at `offset` of `frame` comes to.
fn taken<const LIMIT: usize>(frame: &[u8], offset: usize, len: usize) -> Option<Vec<u8>> {
    let mut taken = Taken(Vec::new());
    words::<_, LIMIT>(&Bytes(frame), offset, len, &mut taken)?;
    Some(taken.0)
}

fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 37 + 11) as u8 | 1).collect()
}

#[test]
fn a_run_of_any_length_comes_whole_with_zeros_behind_wherever_it_ends() {
    for behind in [0, 1, 7, 8, 300] {
        for len in 0..=255 {
            for before in [8, 9, 242, 282] {
                let frame = noise(before + len + behind);
                let mut expected = frame[before..before + len].to_vec();
                expected.resize(len.next_multiple_of(8), 0);
                let found = taken::<32>(&frame, before, len);
                assert_eq!(found, Some(expected), "{len} bytes at {before}");
            }
        }
    }
}

#[test]
fn a_run_that_leaves_the_frame_is_none() {
    for len in 1..=255 {
        for missing in [1, 3, 8] {
            if missing <= len {
                let frame = noise(8 + len - missing);
                assert_eq!(taken::<32>(&frame, 8, len), None, "{missing} of {len}");
            }
        }
    }
}

#[test]
fn no_more_whole_words_are_taken_than_the_limit() {
    let frame = noise(8 + 64);
    assert_eq!(taken::<3>(&frame, 8, 64), Some(frame[8..8 + 24].to_vec()));
}
