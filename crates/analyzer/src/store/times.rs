//! When an instance spoke.

/// Times kept per instance.
const TIMES: usize = 1024;

/// The earliest of many times, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Times {
    kept: Vec<i64>,
    /// None later than this one will be kept.
    bound: Option<i64>,
}

impl Times {
    pub(super) fn push(&mut self, time: i64) {
        if self.bound.is_some_and(|bound| time >= bound) {
            return;
        }
        self.kept.push(time);
        if self.kept.len() >= TIMES * 2 {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.kept.sort_unstable();
        self.kept.dedup();
        self.kept.truncate(TIMES);
        self.bound = self.kept.get(TIMES - 1).copied();
    }

    pub(super) fn merge(&mut self, other: Self) {
        for time in other.kept {
            self.push(time);
        }
    }

    pub(super) fn into_sorted(mut self) -> Vec<i64> {
        self.shrink();
        self.kept
    }
}
