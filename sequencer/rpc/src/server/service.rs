//! What stands between hyper and the methods: which web pages may ask, the body within its size and time; tells the socket what the
//! connection is doing.

use super::guard::{Connection, Phase};
use super::origin::Asked;
use crate::{RpcConfig, RpcStats};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jsonrpsee::core::BoxError;
use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use serde_json::json;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::Service;

/// The service of one connection.
#[derive(Clone)]
pub(crate) struct Limits<S> {
    pub(crate) inner: S,
    pub(crate) connection: Arc<Connection>,
    pub(crate) stats: Arc<RpcStats>,
    pub(crate) config: Arc<RpcConfig>,
}

type Answer = Pin<Box<dyn Future<Output = Result<HttpResponse, BoxError>> + Send>>;

impl<S, B> Service<HttpRequest<B>> for Limits<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: BodyExt + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Answer {
        let this = self.clone();
        Box::pin(async move {
            this.connection.set(Phase::Reading);
            let (parts, body) = request.into_parts();
            let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
            let asked = Asked {
                origin: text("origin"),
                host: text("host"),
                preflight: parts.method == "OPTIONS" && text("access-control-request-method").is_some(),
                headers: text("access-control-request-headers"),
                websocket: text("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket")),
            };
            let origin = asked.judge(&this.config.cors_origins);
            let mut answer = match asked.answer(&origin) {
                Some(answer) => {
                    if answer.status().as_u16() == 403 {
                        RpcStats::add(&this.stats.refused_origins);
                    }
                    this.connection.set(Phase::Idle);
                    answer
                }
                None => this.clone().answer(HttpRequest::from_parts(parts, body)).await?,
            };
            origin.mark(&mut answer);
            Ok(answer)
        })
    }
}

impl<S> Limits<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    async fn answer<B>(self, request: HttpRequest<B>) -> Result<HttpResponse, BoxError>
    where
        B: BodyExt + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let limited = Limited::new(body, self.config.request_bytes_max as usize).collect();
        let body = match tokio::time::timeout(self.config.read_timeout, limited).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                RpcStats::add(&self.stats.refused_bodies);
                let text = format!("request too large: at most {} bytes", self.config.request_bytes_max);
                return Ok(refusal(413, -32600, &text));
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                RpcStats::add(&self.stats.read_timeouts);
                return Ok(refusal(408, -32600, "the request did not arrive in time"));
            }
        };
        self.connection.set(Phase::Answering);
        parts.extensions.insert(self.connection.clone());
        let mut inner = self.inner.clone();
        let answer = inner.call(HttpRequest::from_parts(parts, HttpBody::from(body.to_vec()))).await;
        let upgraded = answer.as_ref().is_ok_and(|answer| answer.status().as_u16() == 101);
        self.connection.set(if upgraded { Phase::Upgraded } else { Phase::Idle });
        answer
    }
}

/// A JSON-RPC error outside of any request, and the end of the connection.
pub(super) fn refusal(status: u16, code: i32, message: &str) -> HttpResponse {
    let body =
        json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } }).to_string();
    let mut response = HttpResponse::new(HttpBody::from(body));
    if let Ok(status) = status.try_into() {
        *response.status_mut() = status;
    }
    let headers = [("content-type", "application/json"), ("connection", "close")];
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
