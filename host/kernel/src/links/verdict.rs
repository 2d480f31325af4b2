//! What a program answers, as far as its instructions tell: whether packets ever get past it.

use std::os::fd::AsFd as _;

use netloom_core::model::ProgramId;
use netloom_sys::bpf;

/// What a program's answers do to the programs behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These answers and no others.
    Known(Vec<i32>),
    /// Its instructions do not tell.
    Unknown,
}

/// The answer that lets the next program decide: `TCX_NEXT`, `NETKIT_NEXT` and `TC_ACT_UNSPEC`.
const NEXT: i32 = -1;
/// Verdicts that tcx and legacy tc both carry out: OK, SHOT, STOLEN, REDIRECT, TRAP. Other numbers end a tcx chain
/// but leave the packet to legacy tc (`tcx_action_code`, `net/core/dev.c`), and do nothing in a legacy filter
/// (`cls_bpf_exec_opcode`, `net/sched/cls_bpf.c`).
const FINAL: [i32; 5] = [0, 2, 4, 7, 8];
/// Of these the ones that tcx carries out.
const FINAL_ON_TCX: [i32; 3] = [0, 2, 7];

impl Verdict {
    /// Whether no packet gets to the programs behind it in its tcx or netkit chain.
    #[must_use]
    pub fn ends_chain(&self) -> bool {
        self.all(|answer| answer != NEXT)
    }

    /// Whether no packet gets from its tcx chain to legacy tc.
    #[must_use]
    pub fn ends_tcx(&self) -> bool {
        self.all(|answer| FINAL_ON_TCX.contains(&answer))
    }

    /// Whether no packet gets past it as a direct-action filter.
    #[must_use]
    pub fn ends_legacy(&self) -> bool {
        self.all(|answer| FINAL.contains(&answer))
    }

    fn all(&self, is_final: impl Fn(i32) -> bool) -> bool {
        matches!(self, Self::Known(answers) if !answers.is_empty() && answers.iter().all(|a| is_final(*a)))
    }
}

/// What a loaded program answers. One that is gone, or whose instructions the kernel does not show, is unknown.
#[must_use]
pub fn verdict(program: ProgramId) -> Verdict {
    let instructions =
        bpf::program_by_id(program.0).and_then(|program| bpf::program_instructions(program.as_fd()));
    instructions.map_or(Verdict::Unknown, |instructions| of(&instructions))
}

/// The values a register can have; none if that cannot be told.
type Values = Option<Vec<i32>>;
type Registers = [Values; 11];

/// More values than a program has verdicts are not worth following.
const MOST_VALUES: usize = 12;
const TAIL_CALL: i32 = 12;

/// Follows constants through the main program on all of its paths.
fn of(instructions: &[u64]) -> Verdict {
    let mut before: Vec<Option<Registers>> = vec![None; instructions.len()];
    let mut answers: Vec<i32> = Vec::new();
    let mut work = vec![(0, Registers::default())];
    while let Some((at, mut registers)) = work.pop() {
        let (Some(raw), Some(known)) = (instructions.get(at), before.get_mut(at)) else {
            return Verdict::Unknown;
        };
        if let Some(known) = known {
            let merged: Registers =
                std::array::from_fn(|register| merge(known.get(register), registers.get(register)));
            if *known == merged {
                continue;
            }
            *known = merged.clone();
            registers = merged;
        } else {
            *known = Some(registers.clone());
        }
        let instruction = Instruction::from(*raw);
        match instruction.step(&mut registers) {
            Step::On(length) => work.push((at + length, registers)),
            Step::To(offset) => match jump(at, offset) {
                Some(target) => work.push((target, registers)),
                None => return Verdict::Unknown,
            },
            Step::Either(offset) => match jump(at, offset) {
                Some(target) => work.extend([(target, registers.clone()), (at + 1, registers)]),
                None => return Verdict::Unknown,
            },
            Step::Exit => match registers.into_iter().next().flatten() {
                Some(values) => answers.extend(values),
                None => return Verdict::Unknown,
            },
            Step::Lost => return Verdict::Unknown,
        }
    }
    answers.sort_unstable();
    answers.dedup();
    Verdict::Known(answers)
}

fn jump(at: usize, offset: i32) -> Option<usize> {
    (at + 1).checked_add_signed(isize::try_from(offset).ok()?)
}

fn merge(one: Option<&Values>, other: Option<&Values>) -> Values {
    let (Some(Some(one)), Some(Some(other))) = (one, other) else { return None };
    let mut both = [one.as_slice(), other].concat();
    both.sort_unstable();
    both.dedup();
    (both.len() <= MOST_VALUES).then_some(both)
}

/// `struct bpf_insn`.
struct Instruction {
    code: u8,
    destination: usize,
    source: usize,
    offset: i16,
    immediate: i32,
}

/// Where it goes from an instruction.
enum Step {
    /// So many instructions on.
    On(usize),
    To(i32),
    Either(i32),
    Exit,
    /// To another program, or where this code does not follow.
    Lost,
}

impl From<u64> for Instruction {
    #[allow(clippy::cast_possible_truncation, reason = "each field is a part of the word")]
    fn from(raw: u64) -> Self {
        Self {
            code: raw as u8,
            destination: (raw >> 8 & 0xf) as usize,
            source: (raw >> 12 & 0xf) as usize,
            offset: (raw >> 16) as i16,
            immediate: (raw >> 32) as i32,
        }
    }
}

impl Instruction {
    fn step(&self, registers: &mut Registers) -> Step {
        let value = match (self.code & 0x07, self.code) {
            // Moves of a constant, 32 and 64 bits wide.
            (_, 0xb4 | 0xb7) => Some(vec![self.immediate]),
            // Moves of a register without sign extension.
            (_, 0xbc | 0xbf) if self.offset == 0 => registers.get(self.source).cloned().flatten(),
            // What is combined with itself by exclusive or is 0.
            (_, 0xac | 0xaf) if self.source == self.destination => Some(vec![0]),
            // Two instructions long: a constant of 64 bits.
            (_, 0x18) => {
                set(registers, self.destination, None);
                return Step::On(2);
            }
            (5 | 6, _) => return self.jump(registers),
            (2 | 3, code) => {
                // Atomic operations may write what they read back.
                if code & 0xe0 == 0xc0 {
                    set(registers, self.source, None);
                    set(registers, 0, None);
                }
                return Step::On(1);
            }
            _ => None,
        };
        set(registers, self.destination, value);
        Step::On(1)
    }

    fn jump(&self, registers: &mut Registers) -> Step {
        match self.code {
            0x95 => Step::Exit,
            0x05 => Step::To(i32::from(self.offset)),
            0x06 => Step::To(self.immediate),
            0x85 if self.source == 0 && self.immediate == TAIL_CALL => Step::Lost,
            0x85 | 0x8d => {
                for register in 0..=5 {
                    set(registers, register, None);
                }
                Step::On(1)
            }
            _ => Step::Either(i32::from(self.offset)),
        }
    }
}

fn set(registers: &mut Registers, register: usize, values: Values) {
    if let Some(place) = registers.get_mut(register) {
        *place = values;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
        u64::from(code)
            | u64::from(destination) << 8
            | u64::from(source) << 12
            | u64::from(offset.cast_unsigned()) << 16
            | u64::from(immediate.cast_unsigned()) << 32
    }

    const EXIT: u64 = 0x95;

    fn answer(value: i32) -> u64 {
        instruction(0xb4, 0, 0, 0, value)
    }

    #[test]
    fn a_constant_answer_is_known() {
        let pass = of(&[answer(0), EXIT]);
        assert_eq!(pass, Verdict::Known(vec![0]));
        assert!(pass.ends_chain() && pass.ends_tcx() && pass.ends_legacy());
        let next = of(&[answer(-1), EXIT]);
        assert!(!next.ends_chain() && !next.ends_tcx() && !next.ends_legacy());
        // A number that is no verdict ends a tcx chain, and nothing else.
        let odd = of(&[answer(1), EXIT]);
        assert!(odd.ends_chain() && !odd.ends_tcx() && !odd.ends_legacy());
    }

    #[test]
    fn every_path_counts() {
        // if r1 == 0 { r0 = 2 } else { r0 = r6 = 0 }
        let branch = instruction(0x15, 1, 0, 3, 0);
        let paths = |other: i32| {
            [branch, instruction(0xb7, 6, 0, 0, other), instruction(0xbf, 0, 6, 0, 0), EXIT, answer(2), EXIT]
        };
        assert_eq!(of(&paths(0)), Verdict::Known(vec![0, 2]));
        assert!(of(&paths(0)).ends_tcx());
        assert!(!of(&paths(-1)).ends_chain(), "one path leaves the packet to the next");
    }

    #[test]
    fn what_depends_on_others_is_unknown() {
        let call = instruction(0x85, 0, 0, 0, 7);
        assert_eq!(of(&[call, EXIT]), Verdict::Unknown);
        let tail_call = instruction(0x85, 0, 0, 0, TAIL_CALL);
        assert_eq!(of(&[tail_call, answer(0), EXIT]), Verdict::Unknown);
        let load = instruction(0x61, 0, 1, 0, 0);
        assert_eq!(of(&[load, EXIT]), Verdict::Unknown);
        assert_eq!(of(&[]), Verdict::Unknown);
        assert_eq!(of(&[instruction(0x05, 0, 0, -9, 0)]), Verdict::Unknown);
    }

    #[test]
    fn loops_end() {
        let round = [answer(0), instruction(0x07, 1, 0, 0, 1), instruction(0x15, 1, 0, -2, 0), EXIT];
        assert_eq!(of(&round), Verdict::Known(vec![0]));
    }

    /// What a program answers that does this and exits.
    fn after(instructions: &[u64]) -> Verdict {
        of(&[instructions, &[EXIT]].concat())
    }

    #[test]
    fn constants_are_followed_through_registers() {
        let copy = |offset| instruction(0xbf, 0, 6, offset, 0);
        let six = instruction(0xb7, 6, 0, 0, 2);
        assert_eq!(after(&[six, copy(0)]), Verdict::Known(vec![2]));
        assert_eq!(after(&[six, copy(8)]), Verdict::Unknown, "with its sign extended");
        assert_eq!(after(&[instruction(0xaf, 0, 0, 0, 0)]), Verdict::Known(vec![0]));
        assert_eq!(after(&[six, answer(0), instruction(0xaf, 0, 6, 0, 0)]), Verdict::Unknown);
        assert_eq!(after(&[answer(0), instruction(0x04, 0, 0, 0, 1)]), Verdict::Unknown);
    }

    #[test]
    fn a_constant_of_64_bits_is_two_instructions_long_and_not_followed() {
        let halves = |register| [instruction(0x18, register, 0, 0, 0), instruction(0, 0, 0, 0, 7)];
        assert_eq!(after(&[&halves(1)[..], &[answer(2)]].concat()), Verdict::Known(vec![2]));
        assert_eq!(after(&[&[answer(2)], &halves(1)[..]].concat()), Verdict::Known(vec![2]));
        assert_eq!(after(&[&[answer(2)], &halves(0)[..]].concat()), Verdict::Unknown);
    }

    #[test]
    fn jumps_of_both_lengths_go_where_they_say() {
        for jump in [instruction(0x05, 0, 0, 1, 7), instruction(0x06, 0, 0, 7, 1)] {
            assert_eq!(after(&[answer(2), jump, answer(0)]), Verdict::Known(vec![2]));
        }
    }

    #[test]
    fn stores_change_no_register_and_atomic_operations_may() {
        for store in [0x62, 0x63] {
            assert_eq!(after(&[answer(2), instruction(store, 1, 2, 0, 0)]), Verdict::Known(vec![2]));
        }
        let atomic = instruction(0xdb, 1, 6, 0, 0);
        assert_eq!(after(&[answer(2), atomic]), Verdict::Unknown);
        let six = instruction(0xb7, 6, 0, 0, 2);
        assert_eq!(after(&[six, atomic, instruction(0xbf, 0, 6, 0, 0)]), Verdict::Unknown);
    }

    #[test]
    fn calls_leave_the_registers_from_the_sixth_on() {
        // Of a function of the program's own, whose number is as that of tail calls, and by a register.
        for call in [instruction(0x85, 0, 1, 0, TAIL_CALL), instruction(0x8d, 3, 0, 0, 0)] {
            let kept = |register: u8| {
                let value = instruction(0xb7, register, 0, 0, 2);
                after(&[value, call, instruction(0xbf, 0, register, 0, 0)])
            };
            assert_eq!(kept(6), Verdict::Known(vec![2]));
            assert_eq!(kept(5), Verdict::Unknown);
            assert_eq!(after(&[call, answer(0)]), Verdict::Known(vec![0]));
        }
    }

    #[test]
    fn as_many_values_are_followed_as_there_are_verdicts() {
        // r0 = 0; if r1 == 0 { exit }; r0 = 1; if r1 == 0 { exit }; …
        let values = |count: i32| {
            let step = |value| [answer(value), instruction(0x15, 1, 0, (2 * (count - value) - 2) as i16, 0)];
            after(&(0..count).flat_map(step).collect::<Vec<_>>())
        };
        assert_eq!(values(12), Verdict::Known((0..12).collect()));
        assert_eq!(values(13), Verdict::Unknown);
    }

    #[test]
    fn what_is_known_on_one_path_only_is_unknown() {
        let load = instruction(0x61, 0, 1, 0, 0);
        assert_eq!(after(&[answer(0), instruction(0x15, 1, 0, 1, 0), load]), Verdict::Unknown);
    }
}
