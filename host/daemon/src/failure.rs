//! Failures as the API gives them: a status, what went wrong, and the way out.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use netloom_api::types::ErrorBody;
use netloom_kernel::{devices::DeviceError, links::LinkError};
use rustix::io::Errno;

use crate::store::StoreError;

/// What a request ends in when it does not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    cause: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    fn new(status: StatusCode, cause: impl Into<anyhow::Error>) -> Self {
        Self { status, cause: cause.into(), hint: None }
    }

    /// There is no such thing.
    pub(crate) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, anyhow::anyhow!("{what}"))
    }

    /// It is there already, or in use.
    pub(crate) fn conflict(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, anyhow::anyhow!("{what}"))
    }

    /// The request is wrong.
    pub(crate) fn invalid(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, cause)
    }

    /// The request is right, but the kernel or a plugin refuses; unless what it is about has gone meanwhile.
    pub(crate) fn refused(cause: impl Into<anyhow::Error>) -> Self {
        let cause = cause.into();
        let gone = of_kernel(&cause).filter(|status| *status == StatusCode::NOT_FOUND);
        Self::new(gone.unwrap_or(StatusCode::UNPROCESSABLE_ENTITY), cause)
    }

    /// Whether what was asked for is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Another change is under way.
    pub(crate) fn busy(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, anyhow::anyhow!("{what}"))
    }

    /// The HTTP status it is answered with.
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The error of a type among its causes.
    pub(crate) fn cause<E: std::error::Error + Send + Sync + 'static>(&self) -> Option<&E> {
        self.cause.chain().find_map(|cause| cause.downcast_ref())
    }

    /// The same for another one who waited for it.
    pub(crate) fn repeated(&self) -> Self {
        Self { status: self.status, cause: anyhow::anyhow!("{self}"), hint: self.hint.clone() }
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what was attempted.
    #[must_use]
    pub(crate) fn context(mut self, what: impl std::fmt::Display + Send + Sync + 'static) -> Self {
        self.cause = self.cause.context(what);
        self
    }
}

/// Anything that is not told apart is the daemon's or the kernel's trouble, not the caller's.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let cause = error.into();
        let of_store = cause.chain().find_map(|cause| cause.downcast_ref::<StoreError>());
        if let Some(StoreError::Broken(broken)) = of_store {
            let status = if broken.is_for_space() {
                StatusCode::INSUFFICIENT_STORAGE
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            let hint = broken.way_out();
            return Self::new(status, cause).hint(hint);
        }
        Self::new(of_kernel(&cause).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), cause)
    }
}

/// What a kernel operation's error says of whose trouble it is: the request's, or the node's state. None if it is the
/// kernel's.
fn of_kernel(cause: &anyhow::Error) -> Option<StatusCode> {
    cause.chain().find_map(|cause| match cause.downcast_ref::<DeviceError>() {
        Some(error) => of_device(error),
        None => cause.downcast_ref::<LinkError>().and_then(of_link),
    })
}

fn of_device(error: &DeviceError) -> Option<StatusCode> {
    use DeviceError::{
        Ignored, InvalidMac, InvalidName, MacOnL3, Mtu, Netlink, NotForMode, NotFound, NotPrimary,
        RouteTaken, TakenInEndpoint, TakenOnNode, Unsupported,
    };
    Some(match error {
        InvalidName { .. } | MacOnL3 { .. } | InvalidMac { .. } | NotForMode { .. } | Mtu { .. } => {
            StatusCode::BAD_REQUEST
        }
        TakenOnNode { .. } | TakenInEndpoint { .. } | RouteTaken { .. } => StatusCode::CONFLICT,
        NotFound { .. } => StatusCode::NOT_FOUND,
        Unsupported { .. } | Ignored { .. } | NotPrimary { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        // Somebody else was quicker, and has let go of it again by the time it was looked for.
        Netlink { source, .. } => match source.errno.map(Errno::from_raw_os_error)? {
            Errno::EXIST => StatusCode::CONFLICT,
            Errno::NODEV => StatusCode::NOT_FOUND,
            _ => return None,
        },
        _ => return None,
    })
}

const fn of_link(error: &LinkError) -> Option<StatusCode> {
    match error {
        LinkError::DeviceGone { .. } | LinkError::LinkWithoutDevice { .. } => Some(StatusCode::NOT_FOUND),
        LinkError::Stale { .. } | LinkError::AnchorGone { .. } => Some(StatusCode::CONFLICT),
        _ => None,
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.cause)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::warn!(status = self.status.as_u16(), error = %self, "request failed");
        let body = ErrorBody { error: self.to_string(), hint: self.hint };
        (self.status, Json(body)).into_response()
    }
}
