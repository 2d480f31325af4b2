use std::path::PathBuf;

use clap::Subcommand;

/// Look after netloomd's records.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Check the store's file and every record in it, and the kept components
    ///
    /// Exits with 1 if something is wrong.
    Check,
    /// Write a copy of all records to a new file, while netloomd runs
    #[command(after_help = "Example:\n  netloom store backup /root/netloom.backup")]
    Backup {
        /// The new file
        file: PathBuf,
    },
    /// Put a copy in the place of the store, while netloomd does not run
    ///
    /// The store before is kept beside it. What the node has and the copy does not know of goes on as an orphan:
    /// `netloom orphans` shows it.
    #[command(
        after_help = "Example:\n  systemctl stop netloomd\n  netloom store restore /root/netloom.backup"
    )]
    Restore {
        /// What `netloom store backup` wrote
        file: PathBuf,
    },
}
