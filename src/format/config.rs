//! `config`: what makes a place a repository (`format-spec/config.md`).

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMicros;
use crate::base::id::RepositoryId;
use crate::chunk::cutter::CutterSizes;
use crate::crypto::aead::Suite;
use crate::crypto::keys::Keyring;

use super::object::{self, ObjectType, SealContext};
use super::{FormatError, cbor, ensure};

/// Suite code of an object that is not encrypted.
const NOT_ENCRYPTED: u8 = 0;

/// A repository's identity and public parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Random identity.
    pub repository: RepositoryId,
    /// When it was made, on its maker's clock.
    pub created: UnixMicros,
    /// Current epoch of the root key.
    pub epoch: u32,
    /// Cipher suite of everything sealed in it.
    pub suite: Suite,
    /// X25519 public key that packs' data keys are sealed to.
    pub public_key: [u8; 32],
    /// How images are cut.
    pub cutter: CutterSizes,
    /// Whether the store may overwrite what exists, so that only one may write at a time.
    pub single_writer: bool,
}

/// A config that parses; nobody has vouched for it yet.
#[derive(Clone, Debug)]
pub struct UntrustedConfig {
    config: Config,
    body: Vec<u8>,
    mac: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireConfig {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    mac: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBody {
    repository: RepositoryId,
    created: UnixMicros,
    epoch: u32,
    suite: u64,
    #[serde(with = "serde_bytes")]
    public_key: [u8; 32],
    cutter: WireCutter,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    single_writer: Option<bool>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCutter {
    minimum: u32,
    average: u32,
    maximum: u32,
}

impl Config {
    /// The object, with its MAC under `keys`.
    pub fn to_object(&self, keys: &Keyring) -> Vec<u8> {
        let CutterSizes { minimum, average, maximum } = self.cutter;
        let body = cbor::encode(&WireBody {
            repository: self.repository,
            created: self.created,
            epoch: self.epoch,
            suite: self.suite.code().into(),
            public_key: self.public_key,
            cutter: WireCutter { minimum, average, maximum },
            single_writer: self.single_writer.then_some(true),
        });
        let mac = keys.config_mac(&body);
        object::plain(ObjectType::Config, NOT_ENCRYPTED, &cbor::encode(&WireConfig { body, mac }))
    }

    /// What sealed objects of this repository are bound to.
    pub fn seal_context(&self) -> SealContext {
        SealContext { repository: self.repository, suite: self.suite, epoch: self.epoch }
    }
}

impl UntrustedConfig {
    /// Parses the object and checks everything that needs no key.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let (suite_code, cbor) = object::open_plain(bytes, ObjectType::Config)?;
        if suite_code != NOT_ENCRYPTED {
            return Err(FormatError::UnknownSuite(suite_code));
        }
        let WireConfig { body, mac } = cbor::decode(cbor)?;
        let wire: WireBody = cbor::decode(&body)?;
        let WireCutter { minimum, average, maximum } = wire.cutter;
        let cutter = CutterSizes { minimum, average, maximum };
        ensure(cutter.is_valid(), "cutter sizes outside the limits")?;
        ensure(wire.epoch == 1, "epoch other than 1")?;
        ensure(wire.single_writer != Some(false), "single_writer other than true")?;
        let config = Config {
            repository: wire.repository,
            created: wire.created,
            epoch: wire.epoch,
            suite: object::suite(u8::try_from(wire.suite).unwrap_or(u8::MAX))?,
            public_key: wire.public_key,
            cutter,
            single_writer: wire.single_writer.is_some(),
        };
        Ok(Self { config, body, mac })
    }

    /// The repository that the config claims to be, needed to open its slots.
    pub fn repository(&self) -> RepositoryId {
        self.config.repository
    }

    /// The config, if it is the one that was made with `keys`.
    pub fn verify(self, keys: &Keyring) -> Result<Config, FormatError> {
        let authentic = keys.config_mac(&self.body) == self.mac && keys.public().to_bytes() == self.config.public_key;
        if authentic { Ok(self.config) } else { Err(FormatError::NotAuthentic) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::SecretKey;

    #[test]
    fn a_config_is_trusted_only_with_the_root_key_that_made_it() {
        let keys = Keyring::new(SecretKey::from_bytes([1; 32]));
        let config = Config {
            repository: RepositoryId([2; 16]),
            created: UnixMicros(3),
            epoch: 1,
            suite: Suite::ChaCha20Poly1305,
            public_key: keys.public().to_bytes(),
            cutter: CutterSizes::default(),
            single_writer: true,
        };
        let parse = |config: &Config| UntrustedConfig::parse(&config.to_object(&keys));
        assert_eq!(parse(&config).and_then(|c| c.verify(&keys)), Ok(config.clone()));
        let others = Keyring::new(SecretKey::from_bytes([9; 32]));
        assert_eq!(parse(&config).and_then(|c| c.verify(&others)), Err(FormatError::NotAuthentic));
        let wild = CutterSizes { minimum: 1, average: 128 << 10, maximum: 512 << 10 };
        assert_eq!(parse(&Config { cutter: wild, ..config }).map_err(|e| e.name()).err(), Some("malformed"));
    }
}
