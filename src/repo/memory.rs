//! What this client remembers of a database: where the last capture was, and the page map of that state.
//!
//! The memory is also the right to capture: while a process has it, no other one on this machine, under the same user, captures the database for the same
//! repository. The lock ends with the process, however that ends.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use crate::base::id::{DatabaseId, WriterId};
use crate::base::image_tree::Leaves;
use crate::base::page::{PageCount, PageSize};
use crate::format::position::Position;
use crate::store::page_map::PageMap;
use crate::store::state::LocalState;

use super::{Repository, RepositoryError};

const LOCK_FILE: &str = "lock";
const POSITION_FILE: &str = "position";
const WRITER_FILE: &str = "writer";

/// See the module documentation.
#[derive(Debug)]
pub struct Memory {
    state: LocalState,
    name: String,
    _lock: File,
}

impl Memory {
    /// The memory of a database, unless another process has it; `None` for a client that remembers nothing.
    pub fn claim(repository: &Repository, database: &str) -> Result<Option<Self>, RepositoryError> {
        let Some(state) = repository.environment.state.clone() else { return Ok(None) };
        let name = memory_name(repository, repository.keys.database_id(database));
        let folder = state.folder(&name);
        fs::create_dir_all(&folder).map_err(RepositoryError::LocalState)?;
        let lock = File::create(folder.join(LOCK_FILE)).map_err(RepositoryError::LocalState)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { state, name, _lock: lock })),
            Err(TryLockError::WouldBlock) => Err(RepositoryError::BeingCaptured { database: database.to_owned() }),
            Err(TryLockError::Error(error)) => Err(RepositoryError::LocalState(error)),
        }
    }

    /// Where the page map is kept.
    pub fn folder(&self) -> PathBuf {
        self.state.folder(&self.name)
    }

    /// The last capture and the page map of its state, if both are there and fit together.
    pub fn load(&self) -> Option<(Position, PageMap)> {
        let bytes = self.state.read(&format!("{}/{POSITION_FILE}", self.name)).ok()??;
        let position = Position::parse(&bytes).ok()?;
        let page_size = PageSize::new(position.page_size)?;
        let leaves = Leaves { page_size, page_count: PageCount(position.page_count) };
        let map = PageMap::open(&self.folder(), leaves, position.root)?;
        Some((position, map))
    }

    /// Remembers the journal that a watcher of this client begins.
    pub fn save_writer(&self, writer: WriterId) -> Result<(), RepositoryError> {
        let name = format!("{}/{WRITER_FILE}", self.name);
        self.state.write(&name, writer.to_string().as_bytes()).map_err(RepositoryError::LocalState)
    }

    /// Whether that journal is of a watcher of this client. It has ended then: otherwise it would have this memory.
    pub fn is_own_writer(&self, writer: WriterId) -> bool {
        let kept = self.state.read(&format!("{}/{WRITER_FILE}", self.name));
        kept.ok().flatten().is_some_and(|kept| kept == writer.to_string().as_bytes())
    }

    /// Remembers a capture and its state.
    pub fn save(&self, position: &Position, map: &mut PageMap) -> Result<(), RepositoryError> {
        map.save().map_err(RepositoryError::LocalState)?;
        let name = format!("{}/{POSITION_FILE}", self.name);
        self.state.write(&name, &position.encode()).map_err(RepositoryError::LocalState)
    }
}

fn memory_name(repository: &Repository, database: DatabaseId) -> String {
    format!("{}/maps/{database}", repository.config.repository)
}
