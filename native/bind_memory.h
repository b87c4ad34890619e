// The Python face of slots.h and of io/reader.h.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

#include "io/reader.h"
#include "slots.h"

namespace apportion {

// What is behind the Python objects; raises where they are something else, or closed.
std::shared_ptr<SlotArena> arena_from(nanobind::handle arena);
std::shared_ptr<Reader> reader_from(nanobind::handle reader);

// (ticket, cause, errno, file, offset, bytes wanted, bytes there, calls)
nanobind::tuple told(const Outcome& outcome);

// Refuses a stretch of a file that does not exist, or that does not fit a slot of so many bytes at `at`.
void check_stretch(Reader& reader, uint32_t file, uint64_t offset, uint64_t nbytes, uint64_t at, size_t slot_nbytes);

void bind_memory(nanobind::module_& m);

}  // namespace apportion
