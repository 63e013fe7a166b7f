//! Medians with intervals.

/// A median and where it would probably lie if everything were measured again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// The 95 % interval of the median.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The median of `values` and its 95 % percentile bootstrap interval: the medians of 4,000 samples
/// drawn from `values` with replacement, seeded, so that the same values give the same interval.
pub(crate) fn summary(values: &[f64]) -> Summary {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        values[(random % values.len() as u64) as usize]
    };
    let mut medians: Vec<f64> = (0..4000)
        .map(|_| median(&(0..values.len()).map(|_| draw()).collect::<Vec<f64>>()))
        .collect();
    medians.sort_by(f64::total_cmp);
    Summary { median: median(values), low: medians[100], high: medians[3899] }
}

/// `f` of the values measured in the same round.
pub(crate) fn paired(one: &[f64], other: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    one.iter().zip(other).map(|(&one, &other)| f(one, other)).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_more_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let values: Vec<f64> = (0..11).map(f64::from).collect();
        let few = summary(&values);
        assert!(few.low < few.median && few.median < few.high, "{few:?}");
        let many: Vec<f64> = values.iter().cycle().take(220).copied().collect();
        let many = summary(&many);
        assert!(many.high - many.low < few.high - few.low, "{many:?}");
        let same = summary(&[7.0; 5]);
        assert_eq!((same.low, same.high), (7.0, 7.0));
    }
}
