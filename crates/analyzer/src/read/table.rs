//! The text of `gcloud logging read --format=table(..)`: a head line, and rows under it, in a box
//! (`table[box](..)`) or without.

use super::batch::{Batch, End};
use super::record::Raw;
use super::scan::text;
use super::time;

/// The columns of a table: what each holds and where it begins, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    list: Vec<(Column, usize)>,
    /// What stands between the cells of a boxed table, where positions count for nothing.
    bar: Option<&'static [u8]>,
}

/// What draws boxes: the bar between cells, and how lines without cells begin.
const BOXES: [(&[u8], [&[u8]; 3]); 2] = [
    ("│".as_bytes(), ["┌".as_bytes(), "├".as_bytes(), "└".as_bytes()]),
    (b"|", [b"+-", b"+=", b"++"]),
];

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
    /// A part of the request: its method, address or status.
    Request,
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
                    b"STATUS" | b"REQUEST_METHOD" | b"METHOD" | b"REQUEST_URL" | b"URL" => {
                        Column::Request
                    }
                    _ => Column::Other,
                },
                start,
            ));
            at = end;
        }
        let has = |wanted| columns.iter().any(|(column, _)| *column == wanted);
        (columns.len() >= 2 && has(Column::Time)).then_some(Self { list: columns, bar: None })
    }

    /// The columns of a boxed table that begins with `text`: its border, perhaps a title, its head.
    pub(crate) fn of_box(text: &[u8]) -> Option<Self> {
        let begins = |borders: &[&[u8]; 3]| borders.iter().any(|border| text.starts_with(border));
        let (bar, _) = BOXES.into_iter().find(|(_, borders)| begins(borders))?;
        let mut lines = text.split(|b| *b == b'\n').take(6).map(<[u8]>::trim_ascii);
        let columns = lines.find_map(|line| {
            let cells = cells(line, bar, usize::MAX)?;
            let head: Vec<&[u8]> = cells.collect();
            Self::of(&head.join(&b"  "[..])).filter(|columns| columns.list.len() == head.len())
        })?;
        Some(Self { bar: Some(bar), ..columns })
    }

    fn time_at(&self) -> (usize, usize) {
        let time = self.list.iter().enumerate().find(|(_, (column, _))| *column == Column::Time);
        time.map_or((0, 0), |(n, (_, at))| (n, *at))
    }

    /// Whether a row begins with this line; other lines belong to the cell before.
    pub(crate) fn begins_row(&self, line: &[u8]) -> bool {
        let (n, at) = self.time_at();
        match self.bar {
            None => line.get(at..).is_some_and(|cell| time::stamp(cell).is_some()),
            Some(bar) => cells(line.trim_ascii(), bar, self.list.len())
                .and_then(|mut cells| cells.nth(n))
                .is_some_and(|cell| time::stamp(cell).is_some()),
        }
    }

    fn row<'a>(&self, at: usize, row: &'a [u8]) -> Raw<'a> {
        let first = memchr::memchr(b'\n', row).unwrap_or(row.len());
        let mut raw = Raw { at, plain: true, ..Raw::default() };
        let boxed = self.bar.and_then(|bar| cells(row[..first].trim_ascii(), bar, self.list.len()));
        let boxed: Option<Vec<&[u8]>> = boxed.map(Iterator::collect);
        for (n, (column, start)) in self.list.iter().enumerate() {
            let last = n + 1 == self.list.len();
            let cell = match &boxed {
                Some(cells) => cells.get(n).copied().unwrap_or_default(),
                None => {
                    let start = (*start).min(first);
                    let end = if last { row.len() } else { self.list[n + 1].1.min(first) };
                    row[start..end.max(start)].trim_ascii()
                }
            };
            match column {
                Column::Time if raw.time.is_empty() => raw.time = cell,
                Column::Severity => raw.severity = cell,
                Column::Log => raw.log = cell,
                Column::InsertId => raw.insert_id = cell,
                Column::Service => raw.service = text(cell),
                Column::Revision => raw.revision = text(cell),
                Column::Instance => raw.instance = cell,
                // From the first of its parts to the last: they are told by their looks.
                Column::Request if !cell.is_empty() => {
                    raw.http =
                        between(row, if raw.http.is_empty() { cell } else { raw.http }, cell);
                }
                // Of TEXT_PAYLOAD and MESSAGE one is empty in each row: both hold a text that is longer
                // than its column.
                Column::Text if !cell.is_empty() => {
                    let long = raw.text_rank > 0 && boxed.is_none();
                    raw.text = between(row, if long { raw.text } else { cell }, cell);
                    raw.text_rank = 9;
                    if boxed.is_some() && first + 1 < row.len() {
                        // From its first line to the row's end; the bars are taken out when it is read.
                        let from = cell.as_ptr().addr() - row.as_ptr().addr();
                        raw.text = &row[from..];
                        raw.boxed = u8::try_from(n + 1).unwrap_or(u8::MAX);
                    }
                }
                _ => {}
            }
        }
        raw
    }
}

/// The part of `row` from where `one` of its cells begins to where another ends.
fn between<'a>(row: &'a [u8], one: &[u8], other: &[u8]) -> &'a [u8] {
    let at = |cell: &[u8]| cell.as_ptr().addr() - row.as_ptr().addr();
    &row[at(one)..at(other) + other.len()]
}

/// The cells of a line between bars, at most `most`: what is more belongs to the last. `None` for a
/// line without bars.
fn cells<'a>(
    line: &'a [u8],
    bar: &'static [u8],
    most: usize,
) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
    let mut rest = Some(line.strip_prefix(bar)?);
    rest = rest.map(|rest| rest.strip_suffix(bar).unwrap_or(rest));
    let mut n = 0;
    Some(std::iter::from_fn(move || {
        let line = rest?;
        n += 1;
        let end = memchr::memmem::find(line, bar).filter(|_| n < most);
        rest = end.map(|end| &line[end + bar.len()..]);
        Some(line[..end.unwrap_or(line.len())].trim_ascii())
    }))
}

/// The text of a cell over several lines of a boxed row: the cell's part of each line.
pub(crate) fn without_box(text: &[u8], column: u8) -> String {
    let column = usize::from(column) - 1;
    let mut out = String::with_capacity(text.len());
    for (n, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii_end();
        let border = BOXES.iter().any(|(_, borders)| borders.iter().any(|b| line.starts_with(b)));
        if n > 0 && border {
            continue;
        }
        let bar = BOXES.iter().map(|(bar, _)| *bar).find(|bar| line.starts_with(bar));
        let part = match bar.filter(|_| n > 0).and_then(|bar| cells(line, bar, column + 1)) {
            Some(mut cells) => cells.nth(column).unwrap_or_default(),
            None => BOXES.iter().find_map(|(bar, _)| line.strip_suffix(*bar)).unwrap_or(line),
        };
        if n > 0 && !part.is_empty() {
            out.push('\n');
        }
        out.push_str(String::from_utf8_lossy(part).trim_end());
    }
    out
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
        } else if row.is_none() && columns.bar.is_none() && Columns::of(&bytes[at..stop]).is_none()
        {
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
