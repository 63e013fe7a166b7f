//! Blocks, threads and order.
//!
//! Each thread takes the next block of input under a lock, parses it alone, and waits for its turn
//! to commit what it found. Where a block really begins is known only when the block before it is
//! parsed; so each is parsed from a guess (a record begins here, in the same list as before), and
//! when its turn comes and the guess was wrong it is parsed again from the truth. Whatever is
//! decided in turn (duplicates, broken records) is therefore the same for any number of threads and
//! any size of blocks.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::batch::{Batch, End, State, Why};
use super::build::{self, Context};
use super::format::{self, Format};
use super::habits::Habits;
use super::input::{Bytes, Input};
use super::scan::Checked;
use super::{Broken, FileReport, MAX_LOCATED, ReadError, ReadOptions, time};
use crate::coverage::{Tally, Window};
use crate::dedup::{self, Dedup, Seen};
use crate::entry::{EntrySink, FileId, Location};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked is reported by the scope; what it left behind is not used.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a thread looks whether what it waits for has come, before it sleeps: within some tens of
/// microseconds, which is what a block is read in and what it takes to be woken.
const LOOKS: u32 = 100;

/// The lock, once what it guards is `ready`; `None` where it is better to sleep.
fn soon<T>(mutex: &Mutex<T>, ready: impl Fn(&T) -> bool) -> Option<MutexGuard<'_, T>> {
    (0..LOOKS).find_map(|_| {
        let guard = mutex.try_lock().ok().filter(|guard| ready(guard));
        if guard.is_none() {
            (0..32).for_each(|_| std::hint::spin_loop());
        }
        guard
    })
}

/// Gives out blocks.
struct Feed<'i> {
    inputs: &'i [Input],
    max_bytes: u64,
    block: usize,
    /// The input being read; `None` before the first and between two.
    open: Option<Open>,
    file: usize,
    seq: u64,
    error: Option<ReadError>,
}

struct Open {
    bytes: Bytes,
    /// Where the next block begins.
    base: u64,
    /// What was read beyond the end of the last block.
    tail: Vec<u8>,
    /// From what state the first block is read.
    format: Option<(Format, State)>,
}

/// One block: what stands before it is not yet known.
struct Block {
    seq: u64,
    file: usize,
    base: u64,
    end: End,
    format: Format,
    /// The state at the beginning of the file.
    start: State,
    /// The state from which it is parsed at first.
    guess: State,
    first: bool,
    ended_early: Option<String>,
}

/// How much of a file its format is told from, in bytes, however small the blocks are.
const HEAD: usize = 64 << 10;

impl Feed<'_> {
    /// Fills `buffer` with the next block. `known` is the state after the last block committed.
    fn next(&mut self, buffer: &mut Vec<u8>, known: State) -> Option<Block> {
        if self.error.is_some() {
            return None;
        }
        let (mut open, first) = match self.open.take() {
            Some(open) => (open, false),
            None => {
                let input = self.inputs.get(self.file)?;
                match Bytes::open(input, self.max_bytes) {
                    Ok(bytes) => {
                        let base = bytes.skipped;
                        (Open { bytes, base, tail: Vec::new(), format: None }, true)
                    }
                    Err(error) => {
                        self.error = Some(error);
                        return None;
                    }
                }
            }
        };
        let kept = open.tail.len();
        let least = if first { HEAD } else { kept + self.block / 2 };
        let size = self.block.max(least);
        buffer.resize(size, 0);
        buffer[..kept].copy_from_slice(&open.tail);
        let len = kept + open.bytes.fill(&mut buffer[kept..]);
        let mut last = len < size;
        buffer.truncate(len);
        let (format, start) = open.format.get_or_insert_with(|| format::detect(buffer)).clone();
        open.tail.clear();
        if first && len > self.block {
            // More than a block was read, to tell the format: the rest of it is for the next.
            open.tail.extend_from_slice(&buffer[self.block..]);
            buffer.truncate(self.block);
            last = false;
        }
        // The state may still be that of the file before.
        let same = std::mem::discriminant(&known) == std::mem::discriminant(&start);
        let guess = if first || !same { start.clone() } else { known };
        let (cut, end) = if last { (len, End::Last) } else { cut(&guess, buffer) };
        open.tail.splice(..0, buffer[cut..].iter().copied());
        buffer.truncate(cut);
        let block = Block {
            seq: self.seq,
            file: self.file,
            base: open.base,
            end,
            format,
            start,
            guess,
            first,
            ended_early: if last { open.bytes.ended_early.take() } else { None },
        };
        self.seq += 1;
        open.base += cut as u64;
        if last {
            self.file += 1;
        } else {
            self.open = Some(open);
        }
        Some(block)
    }
}

/// How far back from the end of a block its last record is looked for.
const CUT_SEARCH: usize = 64 << 10;

/// Where to end a block: before a record where one is found, else anywhere.
fn cut(state: &State, bytes: &[u8]) -> (usize, End) {
    let from = bytes.len().saturating_sub(CUT_SEARCH);
    let line = |begins: &dyn Fn(&[u8]) -> bool| {
        // The last line may go on in the next block.
        let mut end = memchr::memrchr(b'\n', bytes)?;
        while let Some(newline) = memchr::memrchr(b'\n', bytes.get(from..end)?).map(|n| from + n) {
            let line = &bytes[newline + 1..];
            let line = memchr::memchr(b'\n', line).map_or(line, |n| &line[..n]);
            if !line.is_empty() && begins(line) {
                return Some(newline + 1);
            }
            end = newline;
        }
        None
    };
    let (found, end) = match state {
        State::Lines { .. } => (line(&super::text::begins_entry), End::Closed),
        State::Table(columns) => (line(&|line| columns.begins_row(line)), End::Closed),
        State::Tree(tree) => (tree.rfind_record(bytes, from), End::Open),
        State::Junit => (None, End::Open),
    };
    found.filter(|at| *at > 0).map_or((bytes.len(), End::Open), |at| (at, end))
}

/// What is decided in the order of the input.
struct Ordered {
    /// The block whose turn it is.
    turn: u64,
    /// The state after the last block.
    state: State,
    /// What the last block left unread.
    carry: Vec<u8>,
    dedup: Dedup,
    files: Vec<FileReport>,
    claimed: Vec<(FileId, Window)>,
    /// A thread is gone without its commit: nobody may wait for it.
    dead: bool,
}

struct Shared<'i> {
    feed: Mutex<Feed<'i>>,
    ordered: Mutex<Ordered>,
    turned: Condvar,
    options: &'i ReadOptions,
}

/// Sets `dead` when its thread panics, so that the others do not wait for ever.
struct Alive<'s, 'i>(&'s Shared<'i>);

impl Drop for Alive<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.ordered).dead = true;
            self.0.turned.notify_all();
        }
    }
}

/// What reading gives: see [`read`](super::read).
pub(crate) struct Done<S> {
    pub(crate) sink: S,
    pub(crate) tally: Tally,
    pub(crate) files: Vec<FileReport>,
    pub(crate) claimed: Vec<(FileId, Window)>,
    pub(crate) ids_beyond: u64,
}

/// Reads `inputs` with the threads that `options` allow.
pub(crate) fn run<S: EntrySink>(
    inputs: &[Input],
    options: &ReadOptions,
    make_sink: impl Fn() -> S,
) -> Result<Done<S>, ReadError> {
    let shared = Shared {
        feed: Mutex::new(Feed {
            inputs,
            max_bytes: options.max_bytes,
            block: options.block.max(64),
            open: None,
            file: 0,
            seq: 0,
            error: None,
        }),
        ordered: Mutex::new(Ordered {
            turn: 0,
            state: State::Lines { skipping: false },
            carry: Vec::new(),
            dedup: Dedup::default(),
            files: Vec::new(),
            claimed: Vec::new(),
            dead: false,
        }),
        turned: Condvar::new(),
        options,
    };
    let (sink, tally) = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..options.threads.max(1))
            .map(|_| {
                let sink = make_sink();
                let shared = &shared;
                scope.spawn(move || work(shared, sink))
            })
            .collect();
        let (mut sink, mut tally) = work(&shared, make_sink());
        for helper in helpers {
            match helper.join() {
                Ok((other, other_tally)) => {
                    sink.merge(other);
                    tally.merge(other_tally);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        (sink, tally)
    });
    let feed = shared.feed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = feed.error {
        return Err(error);
    }
    let ordered = shared.ordered.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Done {
        sink,
        tally,
        files: ordered.files,
        claimed: ordered.claimed,
        ids_beyond: ordered.dedup.beyond,
    })
}

/// What a thread has.
struct Worker<S> {
    sink: S,
    tally: Tally,
    /// How many records a block is expected to have: about as many as the one before.
    room: usize,
    habits: Habits,
}

fn work<S: EntrySink>(shared: &Shared<'_>, sink: S) -> (S, Tally) {
    let _alive = Alive(shared);
    let mut worker = Worker { sink, tally: Tally::default(), room: 0, habits: Habits::default() };
    let mut buffer = Vec::new();
    loop {
        let known = lock(&shared.ordered).state.clone();
        let mut feed = soon(&shared.feed, |_| true).unwrap_or_else(|| lock(&shared.feed));
        let Some(block) = feed.next(&mut buffer, known) else { break };
        drop(feed);
        if worker.take(shared, &block, &buffer).is_none() {
            break;
        }
    }
    (worker.sink, worker.tally)
}

impl<S: EntrySink> Worker<S> {
    /// Parses one block, commits it in its turn, and gives its entries to the sink. `None` when there
    /// is nobody left to wait for.
    fn take(&mut self, shared: &Shared<'_>, block: &Block, buffer: &[u8]) -> Option<()> {
        let whole: Vec<u8>;
        let mut bytes = buffer;
        let mut batch = Batch::new(self.room, std::mem::take(&mut self.habits));
        let (mut after, mut read) = block.guess.parse(bytes, block.end, &mut batch);
        let (state, carry) = my_turn(shared, block)?;
        if !carry.is_empty() || state != block.guess {
            whole = [&carry[..], buffer].concat();
            bytes = &whole;
            batch = Batch::new(self.room, batch.habits());
            (after, read) = state.parse(bytes, block.end, &mut batch);
        }
        self.habits = batch.habits();
        self.room = batch.raws.len() + batch.raws.len() / 16;
        let base = block.base - carry.len() as u64;
        let parsed = Parsed { base, len: bytes.len(), after, rest: &bytes[read..] };
        commit(shared, block, parsed, &mut batch, &mut self.tally);
        let ctx = Context {
            file: file_id(block.file),
            block: Checked::new(bytes),
            base,
            assumed_offset_s: shared.options.assumed_offset_s,
            service: &shared.options.service,
        };
        let mut near = time::Minute::default();
        for raw in &batch.raws {
            build::entry(raw, &ctx, &mut near, |entry, notes| {
                self.tally.zone_assumed += u64::from(notes.zone_assumed);
                self.tally.add(entry);
                self.sink.entry(entry);
            });
            if let Some(last) = raw.last() {
                build::entry(&last, &ctx, &mut near, |entry, _| self.sink.entry(entry));
            }
        }
        Some(())
    }
}

fn file_id(file: usize) -> FileId {
    FileId(u32::try_from(file).unwrap_or(u32::MAX))
}

/// Waits until all blocks before are committed. Returns the true state at the beginning of the
/// block and what was left unread before it.
fn my_turn(shared: &Shared<'_>, block: &Block) -> Option<(State, Vec<u8>)> {
    let mine = |ordered: &Ordered| ordered.turn == block.seq || ordered.dead;
    let mut ordered = soon(&shared.ordered, mine).unwrap_or_else(|| lock(&shared.ordered));
    while !mine(&ordered) {
        ordered = shared.turned.wait(ordered).unwrap_or_else(PoisonError::into_inner);
    }
    if ordered.dead {
        return None;
    }
    if block.first {
        ordered.carry.clear();
        ordered.state = block.start.clone();
    }
    Some((ordered.state.clone(), std::mem::take(&mut ordered.carry)))
}

/// How far parsing a block came.
struct Parsed<'b> {
    /// Where what was parsed begins in the file.
    base: u64,
    /// How long it is.
    len: usize,
    /// The state after it.
    after: State,
    /// What was left unread at its end.
    rest: &'b [u8],
}

/// Takes over what a block gave, marks and takes out duplicates, and gives the turn to the next.
fn commit(
    shared: &Shared<'_>,
    block: &Block,
    parsed: Parsed<'_>,
    batch: &mut Batch<'_>,
    tally: &mut Tally,
) {
    let Parsed { base, len, after, rest } = parsed;
    let file = file_id(block.file);
    let records = batch.raws.len() as u64;
    let ids: Vec<u64> = batch.raws.iter().map(|raw| dedup::hash(raw.insert_id)).collect();
    let mut lists = batch.raws.iter().map(|raw| raw.hint.severity).peekable();
    while let Some(list) = lists.next() {
        let mut rows = 1;
        while lists.next_if_eq(&list).is_some() {
            rows += 1;
        }
        tally.add_rows(file, list, rows);
    }
    tally.broken += batch.broken.len() as u64;
    tally.not_entries += batch.not_entries;

    let mut ordered = lock(&shared.ordered);
    let ordered = &mut *ordered;
    if block.first {
        ordered.files.push(FileReport::new(String::new(), block.format));
    }
    if let Some(report) = ordered.files.last_mut() {
        report.bytes = base + len as u64;
        report.records += records;
        report.broken += batch.broken.len() as u64;
        let room = MAX_LOCATED - report.located.len();
        let located = |(at, why): &(usize, Why)| Broken {
            location: Location { file, offset: base + *at as u64 },
            why: *why,
        };
        report.located.extend(batch.broken.iter().take(room).map(located));
        report.ended_early = block.ended_early.clone();
    }
    for (from, to) in &batch.claims {
        let at = |text| time::stamp(text).and_then(|stamp| stamp.timestamp(0));
        if let (Some(from), Some(to)) = (at(from), at(to)) {
            ordered.claimed.push((file, Window { from, to }));
        }
    }
    ordered.dedup.touch(&ids);
    let mut ids = ids.into_iter();
    batch.raws.retain_mut(|raw| {
        let id = ids.next().unwrap_or_default();
        if raw.insert_id.is_empty() {
            return true;
        }
        match ordered.dedup.see(id, raw.has_payload()) {
            Seen::New => true,
            Seen::Completes => {
                raw.completes = true;
                true
            }
            Seen::Duplicate => {
                tally.duplicates += 1;
                false
            }
        }
    });
    ordered.state = after;
    ordered.carry.clear();
    ordered.carry.extend_from_slice(rest);
    ordered.turn += 1;
    shared.turned.notify_all();
}
