//! Every input that a fuzzer has left, once more: the corpus, what was found in it, and the seeds.

use std::path::Path;

use nexus_fuzz::TARGETS;

/// The corpus is for people to fetch with the repository.
const MOST_BYTES: u64 = 1 << 20;

#[test]
fn every_input_of_the_corpus_is_taken_without_breaking_a_rule() {
    let mut bytes = 0;
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(
            files.len() >= 10,
            "{} has only {} inputs",
            target.name,
            files.len()
        );
        for file in files {
            let input = std::fs::read(&file).unwrap();
            bytes += input.len() as u64;
            let run = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(run.is_ok(), "{}", file.display());
        }
    }
    assert!(
        bytes < MOST_BYTES,
        "the corpus has {bytes} bytes: remove some of its inputs"
    );
}

#[test]
fn every_seed_is_taken_without_breaking_a_rule() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() >= 6, "{}", target.name);
        for seed in seeds {
            assert!(seed.len() <= target.max_len, "{}", target.name);
            (target.run)(&seed);
        }
    }
}
