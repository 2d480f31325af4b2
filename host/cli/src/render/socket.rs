use netloom_api::types::SocketView;

use super::{
    Render,
    table::{Column, table},
    text::{bytes, duration, or_none},
};

impl Render for [SocketView] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No socket is bound to a backend.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::new("ENDPOINT", |s| or_none(s.endpoint.as_ref())),
                Column::new("SERVICE", |s| or_none(s.service_name.as_ref())),
                Column::new("PROTOCOL", |s| s.socket.protocol.to_string()),
                Column::new("STATE", |s| s.socket.state.to_string()),
                Column::new("LOCAL", |s| s.socket.local.to_string()),
                Column::new("BACKEND", |s| s.socket.backend.to_string()),
                Column::number("AGE", |s| duration(s.socket.age)),
                Column::number("SENT", |s| bytes(s.socket.bytes_sent)),
                Column::number("RECEIVED", |s| bytes(s.socket.bytes_received)),
                Column::wide(Column::new("REMOTE", |s| s.socket.remote.to_string())),
                Column::wide(Column::number("SERVICE ID", |s| s.socket.service.to_string())),
                Column::wide(Column::number("COOKIE", |s| s.socket.cookie.to_string())),
                Column::wide(Column::number("NETNS COOKIE", |s| s.socket.netns_cookie.to_string())),
            ],
        )
    }
}
