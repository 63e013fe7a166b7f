//! What had stopped by the end of what is held.

use std::collections::BTreeSet;

use super::refusals::FEW;
use super::{Case, is_users, seconds};
use crate::attempt::{RequestKind, Traffic};
use crate::clock::Timestamp;

/// In so many minutes on end nothing is served any more: one unlucky request is no end.
const STAYS: usize = 3;
/// So many times as many requests that failed as were served are most of what is asked.
const MOST: u64 = 2;
/// What failed so shortly before the last that was served still fails, in seconds.
const STILL_S: i64 = 60;

impl Case<'_> {
    /// Whether requests of this kind were served once and are no more: since the last that was served
    /// they failed in at least three minutes, and in more than before it. What fails now and then
    /// fails before and after; what broke stays broken. Health checks go on as long as users are
    /// served.
    pub fn has_ended(&self, request: RequestKind) -> bool {
        self.stopped(request, |t| self.was_served(t), |t| self.answer_failed(t))
    }

    /// Whether what is asked for was `served` once and since then `failed`, for good.
    pub(super) fn stopped(
        &self,
        request: RequestKind,
        served: impl Fn(&Traffic) -> bool,
        failed: impl Fn(&Traffic) -> bool,
    ) -> bool {
        let same = |traffic: &Traffic| {
            let users = request == RequestKind::Health && is_users(traffic.request);
            traffic.request == request || users
        };
        let traffic = self.traffic.iter().map(|(_, traffic)| *traffic);
        let served = traffic.filter(|traffic| same(traffic) && served(traffic));
        let Some(last) = served.filter_map(|traffic| traffic.last).max().map(minute) else {
            return false;
        };
        let failed = self.answers(request).filter(|traffic| failed(traffic));
        let failed: BTreeSet<i64> = failed.flat_map(minutes).collect();
        let since = failed.range(last + 1..).count();
        since >= STAYS && since > failed.len() - since
    }

    /// Whether most requests of this kind failed, more than twice as many as were served, and still do:
    /// who is served now and then is not served. Health checks are asked in their own rhythm and say
    /// nothing of shares.
    pub fn mostly_fails(&self, request: RequestKind) -> bool {
        let total = |wanted: &dyn Fn(&Traffic) -> bool| {
            let answers = || self.answers(request).filter(|traffic| wanted(traffic));
            let count: u64 = answers().map(|traffic| traffic.count).sum();
            (count, answers().filter_map(|traffic| traffic.last).max())
        };
        let (failed, last_failed) = total(&|traffic| self.answer_failed(traffic));
        let (served, last_served) = total(&|traffic| self.was_served(traffic));
        let still = last_failed.zip(last_served).is_some_and(|(f, s)| seconds(f, s) <= STILL_S);
        request != RequestKind::Health && failed > MOST * served && still
    }

    /// Whether it says that it is not ready, for good, and whatever failed for users since was not
    /// served to any of them: what still is served needs less.
    pub fn is_unready(&self) -> bool {
        let asks = |traffic: &Traffic| {
            let last = traffic.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            traffic.request == RequestKind::Health && last.starts_with("ready")
        };
        let ready = self.traffic.iter().map(|(_, traffic)| *traffic).filter(|t| asks(t));
        let (mut failed, mut served) = (BTreeSet::new(), None);
        for traffic in ready {
            if self.answer_failed(traffic) {
                failed.extend(minutes(traffic));
            } else if self.was_served(traffic) {
                served = served.max(traffic.last.map(minute));
            }
        }
        let since = failed.iter().filter(|failed| served.is_none_or(|served| served < **failed));
        let paths: BTreeSet<&str> = self
            .answers(RequestKind::Other)
            .filter(|traffic| self.answer_failed(traffic) && !traffic.path.is_empty())
            .map(|traffic| traffic.path.as_str())
            .collect();
        let of = |wanted: &dyn Fn(&Traffic) -> bool| {
            let answers = self.answers(RequestKind::Other);
            answers.filter(|t| paths.contains(t.path.as_str()) && wanted(t)).collect::<Vec<_>>()
        };
        let bad = of(&|traffic| self.answer_failed(traffic));
        let first = bad.iter().filter_map(|traffic| traffic.first).min();
        let again = of(&|traffic| self.was_served(traffic) && traffic.last > first);
        let many = bad.iter().map(|traffic| traffic.count).sum::<u64>() >= FEW;
        since.count() >= STAYS.max(failed.len() / 2 + 1) && many && again.is_empty()
    }

    /// The last moment at which anything was served that shows that the service works.
    pub fn last_served(&self) -> Option<Timestamp> {
        let works =
            |traffic: &Traffic| traffic.request != RequestKind::Static && self.was_served(traffic);
        self.traffic.iter().filter(|(_, t)| works(t)).filter_map(|(_, t)| t.last).max()
    }
}

/// The minutes in which answers were given: all between the first and the last where they were too
/// many to keep.
fn minutes(traffic: &Traffic) -> Vec<i64> {
    match (traffic.minutes.is_empty(), traffic.first, traffic.last) {
        (true, Some(first), Some(last)) => (minute(first)..=minute(last)).collect(),
        _ => traffic.minutes.clone(),
    }
}

fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}
