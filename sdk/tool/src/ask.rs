//! Asking a plugin: once, in scenarios, and again what others were asked.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use netloom_core::answer::Answer;
use netloom_runtime::{Recording, Reply};

use crate::{
    conformance,
    files::{self, Asked, Scenario, Source},
};

/// One question, one answer.
pub(crate) async fn run(source: &Source, question: &Path) -> anyhow::Result<ExitCode> {
    let Asked { node, question } = files::read_json(question)?;
    let plugin = source.load(&files::host()?).await?;
    let reply = plugin.ask(node.facts(), &question).await;
    println!("{}", serde_json::to_string_pretty(&reply)?);
    Ok(if matches!(reply, Reply::Failed(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every scenario, then the conformance suite.
pub(crate) async fn test(source: &Source, scenarios: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let plugin = source.load(&files::host()?).await?;
    let beside = source.component.parent().unwrap_or(Path::new(".")).join("scenarios");
    let paths = match scenarios {
        [] if beside.is_dir() => vec![beside],
        [] => Vec::new(),
        given => given.to_vec(),
    };
    let mut failures = 0_usize;
    let mut passed = 0_usize;
    for file in files::json_files(&paths)? {
        let scenario: Scenario = files::read_json(&file)?;
        let said = plugin.ask(scenario.node.facts(), &scenario.question).await;
        if said == scenario.expect {
            println!("ok    {}", file.display());
            passed += 1;
        } else {
            println!("FAIL  {}", file.display());
            println!("      expected {}", serde_json::to_string(&scenario.expect)?);
            println!("      answered {}", serde_json::to_string(&said)?);
            failures += 1;
        }
    }
    for (name, result) in conformance::run(&plugin).await? {
        match result {
            Ok(()) => {
                println!("ok    conformance: {name}");
                passed += 1;
            }
            Err(why) => {
                println!("FAIL  conformance: {name}: {why}");
                failures += 1;
            }
        }
    }
    println!("{passed} passed, {failures} failed");
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a recording says was answered.
fn recorded<'a>(recording: &'a Recording, against: Option<&str>) -> Option<&'a Reply> {
    let decides = |reply: &Reply| {
        matches!(
            reply,
            Reply::Place(Answer::Decide(_) | Answer::Veto(_))
                | Reply::Rebalance(Answer::Decide(_) | Answer::Veto(_))
                | Reply::Choose(Answer::Decide(_) | Answer::Veto(_))
                | Reply::Plan(Answer::Decide(_) | Answer::Veto(_))
                | Reply::Judge(_)
        )
    };
    let mut replies = recording.replies.iter();
    let found = match against {
        Some(name) => replies.find(|reply| reply.plugin.as_str() == name),
        None => replies.find(|reply| decides(&reply.reply)),
    };
    found.map(|found| &found.reply)
}

/// The same questions to this plugin.
pub(crate) async fn replay(
    source: &Source,
    recordings: &[PathBuf],
    against: Option<&str>,
) -> anyhow::Result<ExitCode> {
    if recordings.is_empty() {
        bail!("name a file of recordings, such as `netloom plugin record` writes");
    }
    let plugin = source.load(&files::host()?).await?;
    let (mut asked, mut differ) = (0_usize, 0_usize);
    for file in recordings {
        let recordings: Vec<Recording> = files::read_json(file)?;
        for recording in recordings {
            let served = plugin.serves(recording.question.hook());
            let Some(before) = recorded(&recording, against).filter(|_| served) else { continue };
            asked += 1;
            let now = plugin.ask(recording.node.facts(), &recording.question).await;
            if now != *before {
                differ += 1;
                println!("{}", recording.question.subject());
                println!("  recorded {}", serde_json::to_string(before)?);
                println!("  answered {}", serde_json::to_string(&now).context("an answer cannot be shown")?);
            }
        }
    }
    println!("{asked} decisions, {differ} answered otherwise");
    Ok(if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
