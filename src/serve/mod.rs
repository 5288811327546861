//! What is offered to other programs for as long as they want it: `mount` shows every state as a file.

pub mod mount;
