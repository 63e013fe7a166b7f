//! What an entry came from: its `resource`.

use std::borrow::Cow;

use super::record::{Raw, take_string, take_text, walk};
use super::scan::{Bad, skip_value};

/// What a `resource` says.
#[derive(Clone, Debug, Default)]
struct Resource<'a> {
    /// All of it.
    whole: &'a [u8],
    service: Cow<'a, str>,
    /// What stands for a service where there is none.
    other: Cow<'a, str>,
    revision: Cow<'a, str>,
    pod: &'a [u8],
}

/// The resources met last. An export has a few of them, over and over.
#[derive(Debug, Default)]
pub(crate) struct Resources<'a> {
    met: [Resource<'a>; 4],
    oldest: usize,
}

impl<'a> Resources<'a> {
    /// Reads the resource at `at` into `raw`. Returns the position after it.
    pub(crate) fn take(
        &mut self,
        bytes: &'a [u8],
        at: usize,
        raw: &mut Raw<'a>,
    ) -> Result<usize, Bad> {
        if bytes.get(at) != Some(&b'{') {
            return skip_value(bytes, at);
        }
        let met = |met: &Resource<'a>| !met.whole.is_empty() && bytes[at..].starts_with(met.whole);
        let found = match self.met.iter().position(met) {
            Some(index) => &self.met[index],
            None => {
                let new = resource(bytes, at)?;
                let index = self.oldest;
                self.oldest = (index + 1) % self.met.len();
                self.met[index] = new;
                &self.met[index]
            }
        };
        let set = |into: &mut Cow<'a, str>, found: &Cow<'a, str>| match found {
            found if found.is_empty() => {}
            Cow::Borrowed(found) => *into = Cow::Borrowed(found),
            found => into.clone_from(found),
        };
        set(&mut raw.service, &found.service);
        set(&mut raw.revision, &found.revision);
        if raw.service.is_empty() {
            set(&mut raw.service, &found.other);
        }
        if raw.instance.is_empty() {
            raw.instance = found.pod;
        }
        Ok(at + found.whole.len())
    }
}

fn resource(bytes: &[u8], at: usize) -> Result<Resource<'_>, Bad> {
    let mut out = Resource::default();
    let end = walk(bytes, at, |key, at| match key {
        b"labels" if bytes.get(at) == Some(&b'{') => walk(bytes, at, |key, at| match key {
            b"service_name" => take_text(bytes, at, &mut out.service),
            b"revision_name" => take_text(bytes, at, &mut out.revision),
            b"database_id" | b"job_name" | b"connector_name" | b"container_name" | b"module_id" => {
                take_text(bytes, at, &mut out.other)
            }
            b"pod_name" => take_string(bytes, at, &mut out.pod),
            _ => skip_value(bytes, at),
        }),
        _ => skip_value(bytes, at),
    })?;
    out.whole = &bytes[at..end];
    Ok(out)
}
