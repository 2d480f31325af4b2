use netloom_api::types::{Trace, TraceOutcome, TraceStep};

use super::{
    Render,
    table::{Column, table},
};

impl Render for Trace {
    fn render(&self, wide: bool) -> String {
        let way = |way: &netloom_api::types::Way| {
            let through = self.service.as_ref().map(|name| format!(" through {name}")).unwrap_or_default();
            let numbered: Vec<(usize, &TraceStep)> = (1..).zip(&way.steps).collect();
            let steps = table(
                &numbered,
                wide,
                &[
                    Column::number("STEP", |(number, _): &(usize, &TraceStep)| number.to_string()),
                    Column::new("AT", |(_, step)| step.at.clone()),
                    Column::new("PROGRAM", |(_, step)| program(step)),
                    Column::prose("WHAT HAPPENS", |(_, step)| step.does.clone()),
                ],
            );
            let end = match way.outcome {
                TraceOutcome::Endpoint => "It reaches an endpoint.",
                TraceOutcome::Node => "It reaches the node.",
                TraceOutcome::Outside => "It leaves the node.",
                TraceOutcome::Refused => "It is refused.",
                TraceOutcome::Dropped => "It is dropped.",
                TraceOutcome::Unreachable => "It goes nowhere.",
            };
            format!("From {} to {}{through}\n{steps}\n{end}", self.endpoint, way.to)
        };
        self.ways.iter().map(way).collect::<Vec<_>>().join("\n\n")
    }
}

fn program(step: &TraceStep) -> String {
    let Some(program) = &step.program else { return String::new() };
    let owner = program.owner.as_deref().unwrap_or("foreign");
    format!("{} ({owner}, id {})", program.name, program.id)
}
