use std::path::PathBuf;

use clap::{Args, Subcommand};
use netloom_api::types::{AttachmentMode, HookPoint};
use netloom_core::model::{Name, Owner};

use super::values::{absolute, global, hook_point, label, mode, netns};

/// `netloom attachment …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AttachmentCommand {
    /// List the attachments
    #[command(visible_alias = "ls")]
    List,
    /// Give an attachment another program, in the same place; no packet misses both
    #[command(after_help = "Example:\n  netloom attachment update monitoring-1 count-v2.o")]
    Update {
        /// The attachment's id, as `netloom attachment list` shows it
        id: String,
        /// The ELF object with the program
        #[arg(value_name = "OBJECT", value_parser = absolute)]
        object: PathBuf,
        /// Which of the object's programs [default: its only one]
        #[arg(long, value_name = "NAME")]
        program: Option<String>,
        /// The value of a global variable; may be repeated
        #[arg(long = "global", value_name = "NAME=VALUE", value_parser = global)]
        globals: Vec<(String, String)>,
    },
    /// Take an attachment from legacy tc to tcx, or back, while packets flow
    ///
    /// Every packet meets the program exactly once. The attachment stays there whatever the configuration says, until
    /// `auto` lets it follow the kernel again. An endpoint's datapath goes as a whole.
    #[command(after_help = "Example:\n  netloom attachment migrate monitoring-1 --to tcx")]
    Migrate {
        /// The attachment's id, as `netloom attachment list` shows it
        id: String,
        /// Where to: `auto` is the best the kernel has
        #[arg(long, value_name = "MODE", value_parser = mode())]
        to: AttachmentMode,
    },
}

/// `netloom chain …`
#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Show a device's programs in the order in which they run, foreign ones included
    Show(ChainShow),
    /// Bring Netloom's own programs on a device into the order that policy wants
    ///
    /// Programs of others stay where they are. Every packet meets each program exactly once meanwhile.
    Rebalance(ChainRebalance),
}

/// `netloom chain rebalance`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom chain rebalance eth0
  netloom chain rebalance --endpoint web --dry-run")]
pub(crate) struct ChainRebalance {
    #[command(flatten)]
    pub(crate) chain: ChainShow,
    /// Say what would be moved, and move nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `netloom chain show`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom chain show eth0
  netloom chain show eth0 --netns blue --point tcx-ingress
  netloom chain show --endpoint web")]
pub(crate) struct ChainShow {
    /// The device's name
    #[arg(required_unless_present = "endpoint")]
    pub(crate) device: Option<String>,
    /// An endpoint instead of a device: its device on the node
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "netns"])]
    pub(crate) endpoint: Option<Name>,
    /// The device's network namespace: a name as `ip netns` lists it, or a path [default: netloomd's]
    #[arg(long, value_name = "PATH|NAME", value_parser = netns)]
    pub(crate) netns: Option<PathBuf>,
    /// Only this hook point
    #[arg(long, value_name = "POINT", value_parser = hook_point())]
    pub(crate) point: Option<HookPoint>,
}

/// `netloom attach`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom attach count.o --device eth0 --owner monitoring --label role=observer
  netloom attach filters.o --endpoint web --program from_pod --owner security --priority 10 --required
  netloom attach shaper.o --device eth0 --owner shaper --all-programs --global rate=1000 --mode tc
  netloom attach count.o --device eth0 --netns blue --point tcx-egress --owner monitoring")]
pub(crate) struct AttachArgs {
    /// The ELF object with the program, as clang compiles it
    #[arg(value_name = "OBJECT", value_parser = absolute)]
    pub(crate) object: PathBuf,
    /// The device to attach it to
    #[arg(long, required_unless_present = "endpoint")]
    pub(crate) device: Option<String>,
    /// An endpoint instead of a device: its device on the node
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "netns"])]
    pub(crate) endpoint: Option<Name>,
    /// The device's network namespace: a name as `ip netns` lists it, or a path [default: netloomd's]
    #[arg(long, value_name = "PATH|NAME", value_parser = netns)]
    pub(crate) netns: Option<PathBuf>,
    /// Where on the device [default: ingress of the best kind the kernel has]
    #[arg(long, value_name = "POINT", value_parser = hook_point())]
    pub(crate) point: Option<HookPoint>,
    /// Whose program it is
    #[arg(long)]
    pub(crate) owner: Owner,
    /// Its priority: lower runs earlier
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,
    /// Which of the object's programs; may be repeated, they share the object's maps [default: its only one]
    #[arg(long = "program", value_name = "NAME", conflicts_with = "all_programs")]
    pub(crate) programs: Vec<String>,
    /// Attach all of the object's programs
    #[arg(long)]
    pub(crate) all_programs: bool,
    /// The value of a global variable: an integer (decimal, or with 0x), or hex: and bytes; may be repeated
    #[arg(long = "global", value_name = "NAME=VALUE", value_parser = global)]
    pub(crate) globals: Vec<(String, String)>,
    /// Share maps that the object wants pinned by name with all objects of its owner
    #[arg(long)]
    pub(crate) share_maps: bool,
    /// How to attach it, for as long as it is attached [default: as the configuration says]
    #[arg(long, value_name = "MODE", value_parser = mode())]
    pub(crate) mode: Option<AttachmentMode>,
    /// A label that policy can look at, such as role=observer; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// No packet may miss it while it is moved within the chain
    #[arg(long)]
    pub(crate) required: bool,
}
