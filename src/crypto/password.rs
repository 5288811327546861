//! From a password to a wrapping key: Argon2id (RFC 9106) with a key commitment.
//!
//! Costs are read from the repository, so they are checked against a ceiling before anything runs. A wrong
//! password is told by the commitment alone, compared in constant time; nothing is decrypted with a wrong key.

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::secret::SecretKey;

/// Bytes of the salt.
pub const SALT_BYTES: usize = 32;

/// The most that a slot may ask for: one GiB of memory, 16 passes, 16 lanes. More is refused: a hostile
/// repository must not exhaust the machine.
pub const CEILING: Cost = Cost { memory_kib: 1 << 20, passes: 16, lanes: 16 };

/// What hashing a password costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes (degree of parallelism).
    pub lanes: u32,
}

impl Default for Cost {
    /// RFC 9106 §4, the second recommended option: 64 MiB, 3 passes, 4 lanes.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }
}

/// Why a password gave no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The commitment differs.
    #[error("wrong password")]
    Wrong,
    /// The slot asks for more than [`CEILING`], or for less than Argon2 allows.
    #[error(
        "key derivation cost outside the limits: memory {} KiB, passes {}, lanes {}; at most {} KiB, {} and {}",
        .0.memory_kib, .0.passes, .0.lanes, CEILING.memory_kib, CEILING.passes, CEILING.lanes
    )]
    Cost(Cost),
    /// The machine has not the memory that the slot asks for.
    #[error("not enough memory to derive the key: {} KiB needed", .0.memory_kib)]
    Memory(Cost),
}

/// A wrapping key, and the commitment to it that stands beside the wrapped key.
pub struct Derived {
    /// Wraps the root key.
    pub key: SecretKey,
    /// Public; tells a wrong password from damage.
    pub commitment: [u8; 32],
}

/// Hashes `password` at `cost`.
pub fn derive(password: &SecretString, salt: &[u8; SALT_BYTES], cost: Cost) -> Result<Derived, PasswordError> {
    let params = params(cost)?;
    let mut output = Zeroizing::new([0u8; 64]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.expose_secret().as_bytes(), salt, &mut *output)
        .map_err(|_| PasswordError::Memory(cost))?;
    let mut key = [0; 32];
    let mut commitment = [0; 32];
    key.copy_from_slice(&output[..32]);
    commitment.copy_from_slice(&output[32..]);
    Ok(Derived { key: SecretKey::from_bytes(key), commitment })
}

/// The wrapping key that `password` gives, if it is the one committed to.
pub fn derive_committed(
    password: &SecretString,
    salt: &[u8; SALT_BYTES],
    cost: Cost,
    commitment: &[u8; 32],
) -> Result<SecretKey, PasswordError> {
    let derived = derive(password, salt, cost)?;
    if bool::from(derived.commitment.ct_eq(commitment)) { Ok(derived.key) } else { Err(PasswordError::Wrong) }
}

/// What is too little, Argon2 refuses itself.
fn params(cost: Cost) -> Result<Params, PasswordError> {
    let Cost { memory_kib, passes, lanes } = cost;
    if memory_kib > CEILING.memory_kib || passes > CEILING.passes || lanes > CEILING.lanes {
        return Err(PasswordError::Cost(cost));
    }
    Params::new(memory_kib, passes, lanes, Some(64)).map_err(|_| PasswordError::Cost(cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    #[test]
    fn the_commitment_tells_a_wrong_password() {
        let salt = [3; SALT_BYTES];
        let derived = derive(&"right".into(), &salt, CHEAP).expect("BUG: cheap costs are allowed");
        let again = derive_committed(&"right".into(), &salt, CHEAP, &derived.commitment);
        assert_eq!(again.map(|k| *k.expose()), Ok(*derived.key.expose()));
        let wrong = derive_committed(&"wrong".into(), &salt, CHEAP, &derived.commitment);
        assert_eq!(wrong.map(|_| ()), Err(PasswordError::Wrong));
    }

    #[test]
    fn costs_beyond_the_ceiling_are_refused_before_they_run() {
        for cost in [
            Cost { memory_kib: CEILING.memory_kib + 1, ..CHEAP },
            Cost { passes: 17, ..CHEAP },
            Cost { passes: 0, ..CHEAP },
            Cost { lanes: 17, memory_kib: 4096, ..CHEAP },
            Cost { lanes: 0, ..CHEAP },
            Cost { lanes: 2, ..CHEAP },
            Cost { memory_kib: 7, ..CHEAP },
            Cost { memory_kib: u32::MAX, passes: u32::MAX, lanes: u32::MAX },
        ] {
            let refused = derive(&"x".into(), &[0; SALT_BYTES], cost).map(|_| ());
            assert_eq!(refused, Err(PasswordError::Cost(cost)));
        }
        assert!(params(CEILING).is_ok());
    }
}
