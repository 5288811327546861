//! Randomness as an argument.
//!
//! Keys, salts, names and the order of chunks in a pack come from an [`Entropy`] that the caller
//! hands down; with [`SeededEntropy`] a run repeats bit for bit.

use std::sync::Mutex;

/// A source of random bytes fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

impl dyn Entropy + '_ {
    /// An array of random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    /// # Panics
    /// When the operating system has no entropy to give: continuing would seal data under guessable keys.
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("BUG: the operating system gives no random bytes");
    }
}

/// A deterministic stream: the extended output of BLAKE3 over a seed. For tests, vectors and simulations.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<blake3::OutputReader>);

impl SeededEntropy {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        Self(Mutex::new(hasher.finalize_xof()))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let mut stream = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        stream.fill(buffer);
    }
}
