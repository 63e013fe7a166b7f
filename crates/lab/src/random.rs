//! Randomness: a seeded sequence for scenarios, the system's for secrets.

use std::io::Read;

use secrecy::SecretString;

/// SplitMix64: small, seeded, the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `bytes` random bytes from the system, as lower-case hex.
///
/// # Errors
/// When the system's source cannot be read.
pub(crate) fn hex(bytes: usize) -> std::io::Result<String> {
    let mut raw = vec![0; bytes];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut raw)?;
    Ok(raw.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A new password of 128 bits.
pub(crate) fn password() -> std::io::Result<SecretString> {
    hex(16).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_is_the_published_sequence() {
        let mut random = SplitMix::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn unit_stays_inside() {
        let mut random = SplitMix::new(7);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
    }

    #[test]
    fn passwords_differ() {
        use secrecy::ExposeSecret;
        let (one, two) = (password().unwrap(), password().unwrap());
        assert_eq!(one.expose_secret().len(), 32);
        assert_ne!(one.expose_secret(), two.expose_secret());
    }
}
