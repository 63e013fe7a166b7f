//! What parsing a block of input gives, and the state it hands to the next block.

use super::habits::Habits;
use super::record::Raw;
use super::resource::{Met, Resource};
use super::table::Columns;
use super::tree::Tree;

/// What is remembered from record to record within a block.
#[derive(Debug, Default)]
pub(crate) struct Memory<'a> {
    /// What they came from.
    pub(crate) resources: Met<'a, Resource<'a>>,
    /// Their labels, each with the instance that it names.
    pub(crate) labels: Met<'a, &'a [u8]>,
    /// How they are put together.
    pub(crate) habits: Habits,
}

/// What was found in one block.
#[derive(Debug, Default)]
pub(crate) struct Batch<'a> {
    /// The records, in the order they stand.
    pub(crate) raws: Vec<Raw<'a>>,
    /// What the records before were like.
    memory: Memory<'a>,
    /// Where broken records begin, counted from the beginning of the block.
    pub(crate) broken: Vec<(usize, Why)>,
    /// Objects and values that are no entries, where entries were expected.
    pub(crate) not_entries: u64,
    /// The windows that whoever saved the export says it covers: inside of `start` and `end`.
    pub(crate) claims: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Batch<'a> {
    /// Of a block that has about so many records, made as `habits` say.
    pub(crate) fn new(records: usize, habits: Habits) -> Self {
        let memory = Memory { habits, ..Memory::default() };
        Self { raws: Vec::with_capacity(records), memory, ..Self::default() }
    }

    /// What is to be known in the next block.
    pub(crate) fn habits(&mut self) -> Habits {
        std::mem::take(&mut self.memory.habits)
    }

    /// A new record at the end, to be filled where it lies, and what helps to.
    #[inline(always)]
    pub(crate) fn slot(&mut self) -> (&mut Raw<'a>, &mut Memory<'a>) {
        // Made where it is to lie: it is of some hundred bytes.
        self.raws.extend(std::iter::once_with(Raw::default));
        (self.raws.last_mut().expect("one was just pushed"), &mut self.memory)
    }
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is no well-formed JSON.
    Malformed,
    /// The input ends within it.
    Truncated,
    /// It is longer than [`MAX_ENTRY`](super::MAX_ENTRY).
    TooLong,
}

/// Where in a file's structure a block begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Lines of JSON or text.
    Lines {
        /// Inside a line that was too long.
        skipping: bool,
    },
    /// Rows of a table with these columns.
    Table(Columns),
    /// Somewhere in a JSON tree.
    Tree(Tree),
    /// A JUnit report.
    Junit,
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Anywhere.
    Open,
    /// Where an entry ends for sure.
    Closed,
    /// With the input.
    Last,
}

impl State {
    /// Parses `bytes` into `batch` from this state. Returns the state after them and how many were
    /// read: the rest belongs before the next block.
    pub(crate) fn parse<'a>(
        &self,
        bytes: &'a [u8],
        end: End,
        batch: &mut Batch<'a>,
    ) -> (Self, usize) {
        match self {
            Self::Lines { skipping } => super::text::parse(bytes, end, *skipping, batch),
            Self::Table(columns) => (self.clone(), super::table::parse(columns, bytes, end, batch)),
            Self::Tree(tree) => {
                let mut tree = tree.clone();
                let read = tree.parse(bytes, end == End::Last, batch);
                (Self::Tree(tree), read)
            }
            Self::Junit => (Self::Junit, super::junit::parse(bytes, end == End::Last, batch)),
        }
    }
}
