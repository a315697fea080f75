//! `/api/v1/allocate` and `/api/v1/allocations`: who has what.

mod views;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use nexus_core::id::{OltId, PoolId, SubscriberId};
use serde::Deserialize;
use utoipa::IntoParams;

use super::App;
use super::extract::{JsonBody, PathOf, QueryOf};
use super::problem::Problem;
use crate::allocation::{AllocationState, Place};
use crate::centre::{CentralRequest, Filter, MAX_PAGE, Outcome, StateFilter};
use crate::refused::Refused;
use views::{
    AllocateRequest, AllocateResponse, AllocationPage, AllocationView, DeallocateResponse,
    SubscriberView, allocations,
};

/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// Filters and place of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Of this pool.
    pool_id: Option<String>,
    /// On this OLT.
    olt_id: Option<String>,
    /// Of this subscriber.
    subscriber_id: Option<String>,
    /// active, releasing, released or all; what subscribers hold (active and releasing) if not given.
    state: Option<String>,
    /// This resource: `100.64.1.50`, `2001:db8:1::/56`, `100`.
    resource: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 1000; 100 if not given.
    limit: Option<usize>,
}

/// Which of a subscriber's allocations.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PoolQuery {
    /// Only what it holds in this pool.
    pool_id: Option<String>,
}

/// Allocates from the shards that the centre keeps for itself, or answers with what the subscriber has in the
/// pool. A repeat with the same `Idempotency-Key` gets the same answer for 24 hours.
#[utoipa::path(
    post, path = "/api/v1/allocate", tag = "allocations",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible characters, chosen by the client")),
    request_body = AllocateRequest,
    responses(
        (status = 201, description = "Allocated", body = AllocateResponse),
        (status = 200, description = "The subscriber had it already", body = AllocateResponse),
        (status = 404, description = "No such pool or OLT", body = Problem),
        (status = 409, description = "Nothing is free", body = Problem),
        (status = 422, description = "A field makes no sense, or the key was used for another request", body = Problem),
        (status = 503, description = "No majority of the servers has decided or confirmed it: repeat the request", body = Problem),
    )
)]
pub async fn allocate(
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<AllocateRequest>,
) -> Result<(StatusCode, Json<AllocateResponse>), Problem> {
    let request = CentralRequest {
        asker: None,
        key: idempotency_key(&headers)?,
        pool: PoolId::new(request.pool_id).map_err(|error| Refused::invalid("pool_id", error))?,
        subscriber: subscriber("subscriber_id", request.subscriber_id)?,
        olt: request
            .olt_id
            .filter(|olt| !olt.is_empty())
            .map(OltId::new)
            .transpose()
            .map_err(|error| Refused::invalid("olt_id", error))?,
        metadata: request.metadata,
    };
    let (allocation, outcome) = app.service.allocate_central(request).await?;
    let status = match outcome {
        Outcome::New => StatusCode::CREATED,
        Outcome::Repeated => StatusCode::OK,
    };
    let allocation = AllocationView::from(allocation.as_ref());
    Ok((status, Json(AllocateResponse { allocation })))
}

/// Ends what a subscriber holds: at once if no OLT has it, else by asking the OLT.
#[utoipa::path(
    delete, path = "/api/v1/allocate/{subscriber_id}", tag = "allocations",
    params(("subscriber_id" = String, Path, description = "Subscriber"), PoolQuery),
    responses(
        (status = 200, description = "Released", body = DeallocateResponse),
        (status = 202, description = "An OLT was asked to release it", body = DeallocateResponse),
        (status = 404, description = "The subscriber holds nothing (in that pool); also after a 503 that had ended it", body = Problem),
        (status = 503, description = "It may be ended, but no majority of the servers has confirmed it: repeat the request", body = Problem),
    )
)]
pub async fn deallocate(
    State(app): State<App>,
    PathOf(subscriber): PathOf<SubscriberId>,
    QueryOf(query): QueryOf<PoolQuery>,
) -> Result<(StatusCode, Json<DeallocateResponse>), Problem> {
    let pool = pool(query.pool_id)?;
    let released = app.service.deallocate(subscriber, pool).await?;
    let status = if released.is_pending() {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    let response = DeallocateResponse {
        allocation: released
            .allocations
            .first()
            .map(|first| AllocationView::from(first.as_ref())),
        allocations: allocations(&released.allocations),
    };
    Ok((status, Json(response)))
}

/// Lists allocations.
#[utoipa::path(
    get, path = "/api/v1/allocations", tag = "allocations",
    params(ListQuery),
    responses(
        (status = 200, description = "A page; it may have fewer than `limit` and still a next one", body = AllocationPage),
        (status = 422, description = "A parameter makes no sense", body = Problem),
    )
)]
pub async fn list(
    State(app): State<App>,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<AllocationPage>, Problem> {
    let filter = filter(query)?;
    let page = app
        .centre()
        .run(move |centre, _| Ok(centre.list(&filter)))
        .await?;
    Ok(Json(AllocationPage {
        allocations: allocations(&page.allocations),
        next_cursor: page.next.as_ref().map(cursor),
    }))
}

/// What a subscriber holds.
#[utoipa::path(
    get, path = "/api/v1/allocations/{subscriber}", tag = "allocations",
    params(("subscriber" = String, Path, description = "Subscriber"), PoolQuery),
    responses(
        (status = 200, description = "What it holds", body = SubscriberView),
        (status = 404, description = "It holds nothing", body = Problem),
    )
)]
pub async fn of_subscriber(
    State(app): State<App>,
    PathOf(subscriber): PathOf<SubscriberId>,
    QueryOf(query): QueryOf<PoolQuery>,
) -> Result<Json<SubscriberView>, Problem> {
    let pool = pool(query.pool_id)?;
    let subscriber_id = subscriber.to_string();
    let held = app
        .centre()
        .run(move |centre, _| centre.held_by(&subscriber, pool.as_ref()))
        .await?;
    Ok(Json(SubscriberView {
        subscriber_id,
        allocations: allocations(&held),
    }))
}

fn filter(query: ListQuery) -> Result<Filter, Refused> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refused::invalid(
            "limit",
            format!("must be 1 to {MAX_PAGE}"),
        ));
    }
    let state = match query.state.as_deref() {
        None => StateFilter::Held,
        Some("all") => StateFilter::All,
        Some(name) => AllocationState::ALL
            .into_iter()
            .find(|state| state.as_str() == name)
            .map(StateFilter::Only)
            .ok_or_else(|| {
                Refused::invalid("state", "must be active, releasing, released or all")
            })?,
    };
    let olt = query
        .olt_id
        .map(OltId::new)
        .transpose()
        .map_err(|error| Refused::invalid("olt_id", error))?;
    let wanted = query.subscriber_id;
    Ok(Filter {
        pool: pool(query.pool_id)?,
        olt,
        subscriber: wanted
            .map(|id| subscriber("subscriber_id", id))
            .transpose()?,
        state,
        resource: query.resource,
        after: query.cursor.as_deref().map(place).transpose()?,
        limit,
    })
}

fn pool(id: Option<String>) -> Result<Option<PoolId>, Refused> {
    id.map(PoolId::new)
        .transpose()
        .map_err(|error| Refused::invalid("pool_id", error))
}

fn subscriber(field: &str, id: String) -> Result<SubscriberId, Refused> {
    SubscriberId::new(id).map_err(|error| Refused::invalid(field, error))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|key| {
            (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        })
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| {
            let problem = format!("must be 1 to {MAX_KEY} visible ASCII characters without spaces");
            Refused::invalid("Idempotency-Key", problem)
        })
}

/// A cursor means nothing to the client; hexadecimal digits need no escaping in a URL.
fn cursor(place: &Place) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in place.to_string().bytes() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn place(cursor: &str) -> Result<Place, Refused> {
    let bytes: Option<Vec<u8>> = cursor
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| Place::parse(&text))
        .ok_or_else(|| {
            Refused::invalid(
                "cursor",
                "is not a next_cursor of this server: begin without one",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        for text in ["default/ipv4/100.64.1.50", "a%2Fb/ipv6/2001:db8::/56"] {
            let there = Place::parse(text).unwrap();
            assert_eq!(place(&cursor(&there)), Ok(there));
        }
        for bad in ["", "zz", "6", "ff"] {
            assert_eq!(place(bad).unwrap_err().field(), Some("cursor"));
        }
    }

    #[test]
    fn bad_filters_are_refused_by_name() {
        let query = |change: fn(&mut ListQuery)| {
            let mut query = ListQuery::default();
            change(&mut query);
            filter(query).map_err(|refused| refused.field().map(ToOwned::to_owned))
        };
        assert_eq!(query(|_| ()).unwrap().limit, 100);
        assert_eq!(query(|q| q.limit = Some(0)), Err(Some("limit".into())));
        assert_eq!(query(|q| q.limit = Some(1001)), Err(Some("limit".into())));
        assert_eq!(
            query(|q| q.state = Some("gone".into())),
            Err(Some("state".into()))
        );
        assert_eq!(
            query(|q| q.pool_id = Some("a b".into())),
            Err(Some("pool_id".into()))
        );
    }
}
