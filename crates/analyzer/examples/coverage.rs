//! Prints what the reader finds in files: formats, coverage, broken records.
//!
//! `cargo run --release -p shakedown-analyzer --example coverage -- PATH..` (`-` is standard input)
#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::error::Error;

use shakedown_analyzer::entry::{Entry, EntrySink};
use shakedown_analyzer::read::{Input, ReadOptions, read};

/// Counts the bytes of all messages, as the least a sink can do.
#[derive(Default)]
struct Count {
    entries: u64,
    message_bytes: u64,
}

impl EntrySink for Count {
    fn entry(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        self.message_bytes += entry.message.len() as u64;
    }

    fn merge(&mut self, other: Self) {
        self.entries += other.entries;
        self.message_bytes += other.message_bytes;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let inputs: Vec<Input> = std::env::args()
        .skip(1)
        .map(|name| if name == "-" { Input::Stdin } else { Input::Path(name.into()) })
        .collect();
    let since = shakedown_core::clock::now();
    let (count, coverage, report) = read(&inputs, &ReadOptions::default(), Count::default)?;
    let seconds = since.elapsed().as_secs_f64();
    let bytes: u64 = report.files.iter().map(|file| file.bytes).sum();
    println!("{coverage:#?}");
    println!("{report:#?}");
    println!(
        "{} entries, {} bytes of messages, {bytes} bytes in {seconds:.3} s: {:.2} GB/s",
        count.entries,
        count.message_bytes,
        bytes as f64 / seconds / 1e9
    );
    Ok(())
}
