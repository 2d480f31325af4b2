use std::{process::ExitCode, time::Duration};

use super::{
    excused::{Excuse, FILE},
    mutant::Mutant,
};

/// How many of a hundred mutants may survive that no reason is listed for.
const TOLERATED_PERCENT: usize = 10;

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This test failed.
    Caught(String),
    /// This program did not end, which somebody would notice.
    TimedOut(&'static str),
    /// No test noticed.
    Survived,
    /// It does not compile, or not with a switch.
    Unbuildable,
    /// The time was over.
    NotTried,
}

/// A pass over a module, as far as it is.
pub(super) struct Pass {
    module: &'static str,
    excuses: Vec<Excuse>,
    /// Those of the module's files that are about no mutant.
    stale: Vec<Excuse>,
    ended: Vec<(Mutant, Fate)>,
    /// The tests of all mutants one after the other; several run at once.
    testing: Duration,
}

impl Pass {
    /// Nothing was tried yet.
    pub(super) fn new(module: &'static str, listed: &[Mutant], excuses: Vec<Excuse>) -> Self {
        let ours = |excuse: &&Excuse| listed.iter().any(|mutant| mutant.file == excuse.file);
        let known = |excuse: &&Excuse| listed.iter().any(|mutant| excuse.is_of(mutant));
        let stale = excuses.iter().filter(ours).filter(|excuse| !known(excuse)).cloned().collect();
        Self { module, excuses, stale, ended: Vec::new(), testing: Duration::ZERO }
    }

    /// A mutant has come to its end.
    pub(super) fn note(&mut self, mutant: Mutant, fate: Fate, time: Duration) {
        let words = match &fate {
            Fate::Caught(test) => format!("caught by {test}"),
            Fate::TimedOut(program) => format!("caught: {program} does not end"),
            Fate::Survived if self.is_excused(&mutant) => "SURVIVED, as listed".to_owned(),
            Fate::Survived => "SURVIVED".to_owned(),
            Fate::Unbuildable => "does not compile".to_owned(),
            Fate::NotTried => "not tried".to_owned(),
        };
        println!("{mutant}\n     {words} ({} s)", time.as_secs());
        self.testing += time;
        self.ended.push((mutant, fate));
    }

    /// Names what no test noticed, and what is listed for nothing.
    fn details(&self) {
        for survivor in self.survivors().1 {
            println!("\nno test notices {survivor}");
        }
        for excuse in self.stale.iter().chain(self.caught_though_excused()) {
            println!("\nin {FILE}, no mutant survives any more that is {excuse:?}");
        }
    }

    /// A row of the table, and whether few enough survive.
    fn row(&self) -> bool {
        let count = |is: fn(&Fate) -> bool| self.ended.iter().filter(|(_, fate)| is(fate)).count();
        let caught = count(|fate| matches!(fate, Fate::Caught(_)));
        let timed_out = count(|fate| matches!(fate, Fate::TimedOut(_)));
        let unbuildable = count(|fate| *fate == Fate::Unbuildable);
        let not_tried = count(|fate| *fate == Fate::NotTried);
        let (listed, unlisted) = self.survivors();
        let (listed, unlisted) = (listed.len(), unlisted.len());
        let tried = caught + timed_out + listed + unlisted;
        let each = self.testing.as_secs_f64() / tried.max(1) as f64;
        println!(
            "{:<10} {caught:>6} {timed_out:>9} {listed:>16} {unlisted:>10} {:>7} {unbuildable:>12} {not_tried:>9} {each:>6.1} s",
            self.module,
            format!("{}%", percent(unlisted, tried)),
        );
        is_tolerated(unlisted, tried)
    }

    /// Those that survived: with a reason, and without.
    fn survivors(&self) -> (Vec<&Mutant>, Vec<&Mutant>) {
        let survived = self.ended.iter().filter(|(_, fate)| *fate == Fate::Survived);
        survived.map(|(mutant, _)| mutant).partition(|mutant| self.is_excused(mutant))
    }

    fn is_excused(&self, mutant: &Mutant) -> bool {
        self.excuses.iter().any(|excuse| excuse.is_of(mutant))
    }

    /// Excuses of mutants that were tried, all of which were caught.
    fn caught_though_excused(&self) -> impl Iterator<Item = &Excuse> {
        self.excuses.iter().filter(|excuse| {
            let mut of_it = self.ended.iter().filter(|(mutant, _)| excuse.is_of(mutant)).peekable();
            of_it.peek().is_some()
                && of_it.all(|(_, fate)| matches!(fate, Fate::Caught(_) | Fate::TimedOut(_)))
        })
    }
}

/// Says what came of the passes: a success if few enough survive of each module.
pub(super) fn tell(passes: &[Pass]) -> ExitCode {
    passes.iter().for_each(Pass::details);
    println!(
        "\n{:<10} {:>6} {:>9} {:>16} {:>10} {:>7} {:>12} {:>9} {:>8}",
        "module",
        "caught",
        "timed out",
        "survived, listed",
        "not listed",
        "share",
        "not compiled",
        "not tried",
        "each"
    );
    let few = passes.iter().filter(|pass| pass.row()).count();
    if few == passes.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn percent(part: usize, whole: usize) -> usize {
    (100 * part).div_ceil(whole.max(1))
}

fn is_tolerated(survivors: usize, tried: usize) -> bool {
    survivors * 100 <= tried * TOLERATED_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_may_survive() {
        assert!(is_tolerated(0, 0) && is_tolerated(3, 30));
        assert!(!is_tolerated(4, 30) && !is_tolerated(1, 9));
        assert_eq!((percent(1, 9), percent(0, 0)), (12, 0));
    }
}
