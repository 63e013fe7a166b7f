//! The text of `gcloud logging read --format=table(..)`: a head line, and rows under it.

use super::batch::{Batch, End};
use super::record::Raw;
use super::time;

/// The columns of a table: what each holds and where it begins, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns(Vec<(Column, usize)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Time,
    Severity,
    Log,
    InsertId,
    Service,
    Revision,
    Instance,
    Text,
    Other,
}

impl Columns {
    /// The columns of a head line, when it is one: words in capitals, a time first.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let head = head.strip_suffix(b"\r").unwrap_or(head);
        if !head.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_ .:".contains(b))
        {
            return None;
        }
        let mut columns = Vec::new();
        let mut at = 0;
        while let Some(start) = head[at..].iter().position(|b| *b != b' ').map(|n| at + n) {
            let end =
                head[start..].iter().position(|b| *b == b' ').map_or(head.len(), |n| start + n);
            columns.push((
                match &head[start..end] {
                    b"TIMESTAMP" | b"TIME" | b"RECEIVE_TIMESTAMP" => Column::Time,
                    b"SEVERITY" | b"LEVEL" => Column::Severity,
                    b"LOG_NAME" | b"LOG" => Column::Log,
                    b"INSERT_ID" => Column::InsertId,
                    b"SERVICE_NAME" | b"SERVICE" => Column::Service,
                    b"REVISION_NAME" | b"REVISION" => Column::Revision,
                    b"INSTANCE_ID" | b"INSTANCE" => Column::Instance,
                    b"TEXT_PAYLOAD" | b"MESSAGE" | b"JSON_PAYLOAD" | b"TEXT" => Column::Text,
                    _ => Column::Other,
                },
                start,
            ));
            at = end;
        }
        let has = |wanted| columns.iter().any(|(column, _)| *column == wanted);
        (columns.len() >= 2 && has(Column::Time)).then_some(Self(columns))
    }

    fn time_at(&self) -> usize {
        self.0.iter().find(|(column, _)| *column == Column::Time).map_or(0, |(_, at)| *at)
    }

    /// Whether a row begins with this line; other lines belong to the cell before.
    pub(crate) fn begins_row(&self, line: &[u8]) -> bool {
        line.get(self.time_at()..).is_some_and(|cell| time::stamp(cell).is_some())
    }

    fn row<'a>(&self, at: usize, row: &'a [u8]) -> Raw<'a> {
        let first = memchr::memchr(b'\n', row).unwrap_or(row.len());
        let mut raw = Raw { at, plain: true, ..Raw::default() };
        for (n, (column, start)) in self.0.iter().enumerate() {
            let last = n + 1 == self.0.len();
            let start = (*start).min(first);
            let end = if last { row.len() } else { self.0[n + 1].1.min(first) };
            let cell = row[start..end.max(start)].trim_ascii();
            match column {
                Column::Time if raw.time.is_empty() => raw.time = cell,
                Column::Severity => raw.severity = cell,
                Column::Log => raw.log = cell,
                Column::InsertId => raw.insert_id = cell,
                Column::Service => raw.service = cell,
                Column::Revision => raw.revision = cell,
                Column::Instance => raw.instance = cell,
                // Of TEXT_PAYLOAD and MESSAGE one is empty in each row.
                Column::Text if !cell.is_empty() => {
                    raw.text = cell;
                    raw.text_rank = 9;
                }
                _ => {}
            }
        }
        raw
    }
}

/// Reads rows. Returns how many bytes were read.
pub(crate) fn parse<'a>(
    columns: &Columns,
    bytes: &'a [u8],
    end: End,
    batch: &mut Batch<'a>,
) -> usize {
    let mut row: Option<usize> = None;
    let mut at = 0;
    while at < bytes.len() {
        let newline = memchr::memchr(b'\n', &bytes[at..]).map(|n| at + n);
        if newline.is_none() && end == End::Open {
            break;
        }
        let stop = newline.unwrap_or(bytes.len());
        if columns.begins_row(&bytes[at..stop]) {
            if let Some(start) = row.replace(at) {
                batch.raws.push(columns.row(start, &bytes[start..at]));
            }
        } else if row.is_none() && Columns::of(&bytes[at..stop]).is_none() {
            batch.not_entries += u64::from(!bytes[at..stop].trim_ascii().is_empty());
        }
        at = newline.map_or(bytes.len(), |n| n + 1);
    }
    match row {
        Some(start) if end == End::Open => start,
        Some(start) => {
            batch.raws.push(columns.row(start, &bytes[start..]));
            bytes.len()
        }
        None => at,
    }
}
