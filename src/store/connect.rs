//! From places to the store that a repository is used through.
//!
//! ```text
//! one destination      retry ( meter ( limit ( destination )))
//! several              retry ( replicas ( meter ( limit ( destination )), … ))
//! ```
//!
//! A folder is not tried again: what a file system refuses, it refuses for good. Of several destinations, one that does not answer is passed over at once; only when too few
//! answer, all are tried again.
//!
//! Credentials come the way each provider's own tools take them: for S3 and Google from the environment, profile files and the machine's metadata service,
//! which OpenDAL reads; for Azure from `AZURE_STORAGE_CONNECTION_STRING`, or `AZURE_STORAGE_ACCOUNT` with `AZURE_STORAGE_KEY` or `AZURE_STORAGE_SAS_TOKEN`; for SFTP
//! the machine's `ssh` has them.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use opendal::{HttpTransporter, Operator, services};

use crate::base::clock::Timer;
use crate::base::entropy::Entropy;
use crate::monitor::Monitor;

use super::Store;
use super::around::limit::{Limit, Limits};
use super::around::meter::Meter;
use super::around::retry::Retry;
use super::local::LocalStore;
use super::object_lock::S3Locks;
use super::opendal::{OpendalStore, runtime};
use super::place::{Bucket, Place};
use super::replicas::{self, Replicas, Waits};
use super::sftp::SftpStore;
use super::transport::Transport;

/// An S3 service that is not Amazon's seldom cares about its region; this is what they call it.
const ANY_REGION: &str = "us-east-1";

/// How to reach a destination.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// A request of few bytes may take so long.
    pub timeout: Duration,
    /// Variables of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// How to use destinations.
pub struct Use<'a> {
    /// How to reach them.
    pub reach: Reach<'a>,
    /// How long operations are tried again.
    pub retry: Duration,
    /// Of several destinations, how many may fail.
    pub tolerate: usize,
    /// Of each destination.
    pub limits: Limits,
    /// Where is kept what each destination lacks.
    pub state: Option<PathBuf>,
    /// Tells how long things take, and waits.
    pub timer: Arc<dyn Timer>,
    /// Draws pauses.
    pub entropy: Arc<dyn Entropy>,
    /// Hears of trouble, and says when to stop.
    pub monitor: Arc<dyn Monitor>,
}

/// Destinations, ready for use.
pub struct Connected {
    /// What a repository is used through.
    pub store: Arc<dyn Store>,
    /// The same, if there are several destinations.
    pub replicas: Option<Arc<Replicas>>,
    /// What was asked of each destination.
    pub meters: Vec<Arc<Meter>>,
}

/// Connects to all `places`, of which there is at least one.
pub fn connect_all(places: &[Place], options: Use<'_>) -> io::Result<Connected> {
    let timer = options.timer;
    let mut meters = Vec::new();
    for place in places {
        let mut store = connect(place, &options.reach)?;
        if options.limits != Limits::default() {
            store = Arc::new(Limit::new(store, options.limits, Arc::clone(&timer)));
        }
        meters.push(Arc::new(Meter::new(store)));
    }
    let mut stores: Vec<Arc<dyn Store>> = meters.iter().map(|meter| Arc::clone(meter) as _).collect();
    let Use { retry, tolerate, state, entropy, monitor, .. } = options;
    let (monitor_of_replicas, timer_of_replicas) = (Arc::clone(&monitor), Arc::clone(&timer));
    let retry = |store| Arc::new(Retry::new(store, retry, timer, entropy, monitor));
    if stores.len() > 1 {
        let options = replicas::Options {
            tolerate,
            state,
            waits: Waits::default(),
            is_inline: false,
            timer: timer_of_replicas,
            monitor: monitor_of_replicas,
        };
        let stores = places.iter().map(Place::identity).zip(stores).collect();
        let replicas = Arc::new(Replicas::new(stores, options));
        return Ok(Connected { store: retry(Arc::clone(&replicas) as _), replicas: Some(replicas), meters });
    }
    let store = stores.remove(0);
    let store = if places[0].is_remote() { retry(store) as _ } else { store };
    Ok(Connected { store, replicas: None, meters })
}

/// The store at a place. Nothing is asked of it yet; what is wrong with its configuration is said.
pub fn connect(place: &Place, reach: &Reach<'_>) -> io::Result<Arc<dyn Store>> {
    let location = place.to_string();
    let mut locks = None;
    let operator = match place {
        Place::Folder(path) => return Ok(Arc::new(LocalStore::new(path.clone()))),
        Place::Memory => return Ok(Arc::new(OpendalStore::memory()?)),
        Place::Sftp(place) => return Ok(Arc::new(SftpStore::new(place.clone(), reach.timeout))),
        Place::S3 { bucket, region, profile, virtual_host } => {
            install_transport();
            let mut service = services::S3::default().bucket(&bucket.name).root(&root(bucket));
            let endpoint = bucket
                .endpoint
                .clone()
                .or_else(|| ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| (reach.variable)(name)));
            let region = region_of(bucket, region.as_deref(), endpoint.as_deref(), reach);
            service = service.region(&region);
            if let Some(endpoint) = &endpoint {
                service = service.endpoint(endpoint);
            }
            if let Some(profile) = profile {
                service = service.profile(profile);
            }
            if *virtual_host {
                service = service.enable_virtual_host_style();
            }
            let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
            let (name, prefix) = (&bucket.name, &bucket.prefix);
            locks = Some(S3Locks::new(&endpoint, name, prefix, *virtual_host, &region, profile.as_deref()));
            Operator::new(service)
        }
        Place::Gcs(bucket) => {
            install_transport();
            let emulator = (reach.variable)("STORAGE_EMULATOR_HOST");
            let mut service = services::Gcs::default().bucket(&bucket.name).root(&root(bucket));
            if emulator.is_some() {
                service = service.skip_signature();
            }
            let emulator = emulator.map(|host| if host.contains("://") { host } else { format!("http://{host}") });
            if let Some(endpoint) = bucket.endpoint.as_ref().or(emulator.as_ref()) {
                service = service.endpoint(endpoint);
            }
            Operator::new(service)
        }
        Place::Azblob { container, account } => {
            install_transport();
            azblob(container, account.as_deref(), reach)
        }
    };
    let operator = operator.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.message().to_owned()))?;
    let store = OpendalStore::new(operator, location, reach.timeout);
    Ok(match locks {
        Some(locks) => Arc::new(store.with_locks(locks)),
        None => Arc::new(store),
    })
}

fn azblob(container: &Bucket, account: Option<&str>, reach: &Reach<'_>) -> opendal::Result<Operator> {
    let variable = reach.variable;
    let mut service = match variable("AZURE_STORAGE_CONNECTION_STRING") {
        Some(text) => services::Azblob::from_connection_string(&text)?,
        None => services::Azblob::default(),
    };
    service = service.container(&container.name).root(&root(container));
    let account = account.map(str::to_owned).or_else(|| variable("AZURE_STORAGE_ACCOUNT"));
    let official = || account.as_ref().map(|account| format!("https://{account}.blob.core.windows.net"));
    if let Some(endpoint) = container.endpoint.clone().or_else(official) {
        service = service.endpoint(&endpoint);
    }
    if let Some(account) = &account {
        service = service.account_name(account);
    }
    if let Some(key) = variable("AZURE_STORAGE_KEY") {
        service = service.account_key(&key);
    }
    if let Some(token) = variable("AZURE_STORAGE_SAS_TOKEN") {
        service = service.sas_token(&token);
    }
    Operator::new(service)
}

fn root(bucket: &Bucket) -> String {
    format!("/{}", bucket.prefix)
}

/// What the URL says, else what the environment says; else what Amazon says of the bucket.
fn region_of(bucket: &Bucket, region: Option<&str>, endpoint: Option<&str>, reach: &Reach<'_>) -> String {
    let given = region.map(str::to_owned);
    let given = given.or_else(|| ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| (reach.variable)(name)));
    given.unwrap_or_else(|| match endpoint {
        Some(_) => ANY_REGION.to_owned(),
        None => {
            let detect = services::S3::detect_region("https://s3.amazonaws.com", &bucket.name);
            let detected = runtime().block_on(async { tokio::time::timeout(reach.timeout, detect).await });
            detected.ok().flatten().unwrap_or_else(|| ANY_REGION.to_owned())
        }
    })
}

/// Tells OpenDAL how to speak HTTP, and TLS which cryptography to use. Once a process.
fn install_transport() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Fails only if the program that we are a library of has chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        HttpTransporter::install_default(Transport::default());
    });
}
