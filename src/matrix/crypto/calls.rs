//! What a device asks of the homeserver, as calls of its client API: requests of the key machinery out,
//! their answers back into it.

use axum::http;
use matrix_sdk_crypto::types::requests::{
    AnyIncomingResponse, AnyOutgoingRequest, KeysQueryRequest, OutgoingRequest, ToDeviceRequest,
    UploadSigningKeysRequest,
};
use ruma::TransactionId;
use ruma::api::IncomingResponse;
use ruma::api::client::keys::{claim_keys, get_keys, upload_keys, upload_signatures, upload_signing_keys};
use ruma::api::client::to_device::send_event_to_device;
use serde_json::{Value, json};

use super::device::Device;
use crate::matrix::homeserver::{Call, CallError, Called, Homeserver};

/// How long the homeserver may ask others for keys.
const KEYS_TIMEOUT_MS: u64 = 10_000;

/// Carries out one request of a device, and tells the device what came of it.
///
/// # Errors
/// [`CallError`].
pub(super) async fn carry_out(
    hs: &Homeserver,
    device: &Device,
    request: &OutgoingRequest,
) -> Result<(), CallError> {
    let id = request.request_id();
    match request.request() {
        AnyOutgoingRequest::KeysUpload(request) => upload(hs, device, id, request).await,
        AnyOutgoingRequest::KeysQuery(request) => query(hs, device, id, request).await,
        AnyOutgoingRequest::KeysClaim(request) => claim(hs, device, id, request).await,
        AnyOutgoingRequest::ToDeviceRequest(request) => to_device(hs, device, request).await,
        AnyOutgoingRequest::SignatureUpload(request) => sign(hs, device, id, request).await,
        // Only who verifies others by hand speaks in rooms.
        AnyOutgoingRequest::RoomMessage(_) => Ok(()),
    }
}

async fn upload(
    hs: &Homeserver,
    device: &Device,
    id: &TransactionId,
    request: &upload_keys::v3::Request,
) -> Result<(), CallError> {
    let mut body = json!({});
    if let Some(keys) = &request.device_keys {
        body["device_keys"] = value(keys)?;
    }
    if !request.one_time_keys.is_empty() {
        body["one_time_keys"] = value(&request.one_time_keys)?;
    }
    if !request.fallback_keys.is_empty() {
        body["fallback_keys"] = value(&request.fallback_keys)?;
    }
    let answer = call(hs, device, Call::post(&["v3", "keys", "upload"], body)).await?;
    heard(device, id, &read::<upload_keys::v3::Response>(&answer)?).await
}

async fn query(
    hs: &Homeserver,
    device: &Device,
    id: &TransactionId,
    request: &KeysQueryRequest,
) -> Result<(), CallError> {
    let body = json!({"device_keys": value(&request.device_keys)?, "timeout": KEYS_TIMEOUT_MS});
    let answer = call(hs, device, Call::post(&["v3", "keys", "query"], body)).await?;
    heard(device, id, &read::<get_keys::v3::Response>(&answer)?).await
}

/// Asks for one-time keys, to begin conversations of devices with.
///
/// # Errors
/// [`CallError`].
pub(super) async fn claim(
    hs: &Homeserver,
    device: &Device,
    id: &TransactionId,
    request: &claim_keys::v3::Request,
) -> Result<(), CallError> {
    let body = json!({"one_time_keys": value(&request.one_time_keys)?, "timeout": KEYS_TIMEOUT_MS});
    let answer = call(hs, device, Call::post(&["v3", "keys", "claim"], body)).await?;
    heard(device, id, &read::<claim_keys::v3::Response>(&answer)?).await
}

/// Sends events to devices.
///
/// # Errors
/// [`CallError`].
pub(super) async fn to_device(
    hs: &Homeserver,
    device: &Device,
    request: &ToDeviceRequest,
) -> Result<(), CallError> {
    let kind = request.event_type.to_string();
    let body = json!({"messages": value(&request.messages)?});
    let path = ["v3", "sendToDevice", &kind, request.txn_id.as_str()];
    call(hs, device, Call::put(&path, body)).await?;
    heard(device, &request.txn_id, &send_event_to_device::v3::Response::new()).await
}

/// Publishes the keys that vouch for a user's devices.
///
/// # Errors
/// [`CallError`].
pub(super) async fn publish_identity(
    hs: &Homeserver,
    device: &Device,
    request: &UploadSigningKeysRequest,
) -> Result<(), CallError> {
    let mut body = json!({});
    let keys = [
        ("master_key", &request.master_key),
        ("self_signing_key", &request.self_signing_key),
        ("user_signing_key", &request.user_signing_key),
    ];
    for (name, key) in keys {
        if let Some(key) = key {
            body[name] = value(key)?;
        }
    }
    call(hs, device, Call::post(&["v3", "keys", "device_signing", "upload"], body)).await?;
    let response = upload_signing_keys::v3::Response::new();
    heard(device, &TransactionId::new(), AnyIncomingResponse::SigningKeysUpload(&response)).await
}

/// Publishes what these keys signed.
///
/// # Errors
/// [`CallError`].
pub(super) async fn sign(
    hs: &Homeserver,
    device: &Device,
    id: &TransactionId,
    request: &upload_signatures::v3::Request,
) -> Result<(), CallError> {
    let body = value(&request.signed_keys)?;
    let answer = call(hs, device, Call::post(&["v3", "keys", "signatures", "upload"], body)).await?;
    heard(device, id, &read::<upload_signatures::v3::Response>(&answer)?).await
}

/// Calls the homeserver as this device.
pub(super) async fn call(hs: &Homeserver, device: &Device, call: Call<'_>) -> Called {
    let query = [("device_id", device.id()), ("org.matrix.msc3202.device_id", device.id())];
    hs.call(Call { query: &query, as_user: Some(device.user()), ..call }).await
}

fn value(of: &impl serde::Serialize) -> Result<Value, CallError> {
    serde_json::to_value(of).map_err(|error| CallError::Keys(error.to_string()))
}

fn read<R: IncomingResponse>(answer: &Value) -> Result<R, CallError> {
    R::try_from_http_response(http::Response::new(answer.to_string().into_bytes()))
        .map_err(|error| CallError::Odd(error.to_string()))
}

async fn heard(
    device: &Device,
    id: &TransactionId,
    response: impl Into<AnyIncomingResponse<'_>>,
) -> Result<(), CallError> {
    let taken = device.keys().mark_request_as_sent(id, response).await;
    taken.map_err(|error| CallError::Keys(error.to_string()))
}
