use std::{
    fs::File,
    io::Write as _,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use netloom_api::{Client, types::StoreCheck};

use crate::{
    args::{Global, StoreCommand},
    failure::Failure,
    output::Output,
};

pub(super) async fn run(
    client: &Client,
    command: StoreCommand,
    global: &Global,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        StoreCommand::Check => {
            let check: StoreCheck = client.get("/v1/store/check").await?;
            output.show(&check)?;
            Ok(if check.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        StoreCommand::Backup { file } => {
            let copy = client.bytes("/v1/store/backup").await?;
            write(&file, &copy).map_err(|source| Failure::WriteBackup { path: file.clone(), source })?;
            output.note(&format!("{} has all records ({} KiB).", file.display(), copy.len() >> 10))?;
            Ok(ExitCode::SUCCESS)
        }
        StoreCommand::Restore { file } => Err(restore(global, &file)),
    }
}

/// Writes a file that is not there yet, for nobody else to read.
fn write(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all());
    if written.is_err() {
        drop(std::fs::remove_file(path));
    }
    written
}

/// Goes on as netloomd, which knows its store. Comes back only if that cannot be.
fn restore(global: &Global, file: &Path) -> Failure {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("netloomd")));
    let program = beside.filter(|beside| beside.exists()).unwrap_or_else(|| PathBuf::from("netloomd"));
    let mut command = Command::new(&program);
    if let Some(instance) = &global.instance {
        command.arg("--instance").arg(instance.as_str());
    }
    let source = command.arg("restore").arg("--").arg(file).exec();
    Failure::Netloomd { program, source }
}
