use netloom_api::types::Attachment;
use netloom_core::model::ProgramSource;

use super::{
    Render,
    chain::filter,
    table::{Column, table},
    text::{labels, or_none},
};

impl Render for [Attachment] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No attachments. Attach a program with `netloom attach OBJECT.o --device DEVICE --owner OWNER`."
                .to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::new("ATTACHMENT", |a| a.id.clone()),
                Column::new("DEVICE", |a| a.hook.device.clone()),
                Column::new("POINT", |a| a.hook.point.to_string()),
                Column::new("KIND", |a| a.kind.to_string()),
                Column::new("PROGRAM", |a| a.candidate.name.clone()),
                Column::new("OWNER", |a| a.candidate.owner.to_string()),
                Column::number("PRIORITY", |a| a.candidate.priority.to_string()),
                Column::number("ID", |a| a.program.to_string()),
                Column::number("LINK", |a| or_none(a.link)),
                Column::new("ENDPOINT", |a| or_none(a.endpoint.as_ref())),
                Column::new("DECIDED BY", |a| a.decided_by.clone()),
                Column::wide(Column::new("NETNS", |a| or_none(a.netns.as_ref().map(|path| path.display())))),
                Column::wide(Column::new("NETNS ID", |a| a.hook.netns.to_string())),
                Column::wide(Column::number("IFINDEX", |a| a.hook.ifindex.to_string())),
                Column::wide(Column::new("TAG", |a| a.candidate.tag.clone())),
                Column::wide(Column::new("REQUIRED", |a| {
                    if a.candidate.required { "yes" } else { "no" }.to_owned()
                })),
                Column::wide(Column::new("MODE", |a| or_none(a.mode))),
                Column::wide(Column::new("FILTER", |a| filter(a.filter))),
                Column::wide(Column::new("LABELS", |a| labels(&a.candidate.labels))),
                Column::wide(Column::new("SOURCE", |a| source(&a.source))),
            ],
        )
    }
}

fn source(source: &ProgramSource) -> String {
    match source {
        ProgramSource::FromEndpoint => "datapath, from the endpoint".to_owned(),
        ProgramSource::ToEndpoint => "datapath, to the endpoint".to_owned(),
        ProgramSource::FromUplink => "datapath, from outside".to_owned(),
        ProgramSource::Object { path, program: None, .. } => path.display().to_string(),
        ProgramSource::Object { path, program: Some(program), .. } => {
            format!("{program} of {}", path.display())
        }
    }
}
