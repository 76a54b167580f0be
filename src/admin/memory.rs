//! `/memory`: what the allocator holds, in Envoy's words.

use std::ffi::CStr;
use std::ptr;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::parameters::{Parameters, QueryError};
use super::server::json;

/// As Envoy's: numbers of bytes are texts, as in JSON of protobuf.
#[derive(Serialize)]
struct MemoryPage {
    /// In use by the program.
    allocated: String,
    /// Mapped by the allocator.
    heap_size: String,
    /// Address space that is kept without memory behind it.
    pageheap_unmapped: String,
    /// Memory that is free and not given back yet.
    pageheap_free: String,
    /// In the caches of threads.
    total_thread_cache: String,
    /// Memory of the machine that the heap takes.
    total_physical_bytes: String,
}

/// The page.
pub(super) async fn memory(query: Parameters) -> Result<Response, QueryError> {
    query.end(&[])?;
    let Some(page) = read() else {
        let text = "the allocator of this build keeps no statistics\n";
        return Ok((StatusCode::NOT_IMPLEMENTED, text).into_response());
    };
    Ok(json(&page))
}

fn read() -> Option<MemoryPage> {
    refresh()?;
    let (active, resident) = (number(c"stats.active")?, number(c"stats.resident")?);
    let metadata = number(c"stats.metadata")?;
    // 4096 stands for all arenas together.
    let caches = number(c"stats.arenas.4096.tcache_bytes").unwrap_or(0);
    Some(MemoryPage {
        allocated: number(c"stats.allocated")?.to_string(),
        heap_size: number(c"stats.mapped")?.to_string(),
        pageheap_unmapped: number(c"stats.retained")?.to_string(),
        pageheap_free: resident.saturating_sub(active).saturating_sub(metadata).to_string(),
        total_thread_cache: caches.to_string(),
        total_physical_bytes: resident.to_string(),
    })
}

/// jemalloc shows the numbers of the last time that this was written.
fn refresh() -> Option<()> {
    let mut epoch = 1u64;
    let size = size_of::<u64>();
    // SAFETY: the name ends with a zero, and what is written is a u64 that lives over the call, as
    // `epoch` is of that type.
    let outcome = unsafe {
        tikv_jemalloc_sys::mallctl(
            c"epoch".as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::from_mut(&mut epoch).cast(),
            size,
        )
    };
    (outcome == 0).then_some(())
}

/// A statistic that is a size.
fn number(name: &CStr) -> Option<usize> {
    let mut value = 0usize;
    let mut size = size_of::<usize>();
    // SAFETY: the name ends with a zero; jemalloc writes at most `size` bytes to `value`, and refuses when
    // the statistic has another size.
    let outcome = unsafe {
        tikv_jemalloc_sys::mallctl(
            name.as_ptr(),
            ptr::from_mut(&mut value).cast(),
            &mut size,
            ptr::null_mut(),
            0,
        )
    };
    (outcome == 0 && size == size_of::<usize>()).then_some(value)
}
