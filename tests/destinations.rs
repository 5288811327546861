//! A repository on several destinations: one or two of them are away, destroyed, damaged, rolled back, written to by two machines at once, or
//! not what they should be. What was acknowledged is there, and what can be mended is.
//!
//! Most of these tests run the real binary on three folders; [`library`] holds those that need destinations which fail at a certain moment.
//! The last, [`servers`], has one destination on an S3 service, one on an SFTP server and one in a folder.

#[path = "destinations/away.rs"]
mod away;
#[path = "destinations/damaged.rs"]
mod damaged;
#[path = "destinations/destroyed.rs"]
mod destroyed;
#[path = "destinations/disagreeing.rs"]
mod disagreeing;
#[path = "destinations/healthy.rs"]
mod healthy;
mod ledger;
#[path = "destinations/library.rs"]
mod library;
#[path = "watch/points.rs"]
mod points;
#[path = "destinations/servers.rs"]
mod servers;
mod support;
#[path = "destinations/three.rs"]
mod three;
mod watcher;
