use std::path::PathBuf;

use clap::{Args, Subcommand};
use netloom_api::types::HookPoint;
use netloom_core::model::{Name, Owner};

use super::values::{absolute, hook_point, label, netns};

/// `netloom attachment …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum AttachmentCommand {
    /// List the attachments
    #[command(visible_alias = "ls")]
    List,
}

/// `netloom chain …`
#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Show a device's programs in the order in which they run, foreign ones included
    Show(ChainShow),
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
    /// Which of the object's programs [default: its only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) program: Option<String>,
    /// A label that policy can look at, such as role=observer; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// No packet may miss it while it is moved within the chain
    #[arg(long)]
    pub(crate) required: bool,
}
