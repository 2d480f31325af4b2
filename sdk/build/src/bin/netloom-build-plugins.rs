//! Builds every plugin of a workspace and puts the components into one folder:
//! `netloom-build-plugins WORKSPACE FOLDER`.

use std::{env, error::Error, fs, path::PathBuf, process::ExitCode};

use netloom_plugin_build::{Options, build_all};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(workspace), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: netloom-build-plugins WORKSPACE FOLDER".into());
    };
    fs::create_dir_all(&folder)?;
    for component in build_all(&workspace, &Options { progress: true, ..Options::default() })? {
        fs::copy(&component.path, folder.join(&component.name).with_extension("wasm"))?;
    }
    Ok(())
}
