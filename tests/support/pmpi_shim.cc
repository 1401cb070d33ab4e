#include "tests/support/pmpi_shim.h"

#include <mpi.h>

#include <algorithm>

namespace memwall::test {

namespace {
PmpiCounts counts;
}

PmpiCounts pmpi_counts() {
  return counts;
}
void reset_pmpi_counts() {
  counts = {};
}

namespace {

void count_isend(int count, MPI_Datatype type) {
  int size = 0;
  PMPI_Type_size(type, &size);
  const int64_t bytes = int64_t{count} * size;
  ++counts.messages;
  counts.bytes += bytes;
  counts.largest_message = std::max(counts.largest_message, bytes);
}

}  // namespace

}  // namespace memwall::test

using memwall::test::count_isend;
using memwall::test::counts;

extern "C" {

int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request* request) {
  count_isend(count, type);
  return PMPI_Isend(data, count, type, to, tag, comm, request);
}

int MPI_Send(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm) {
  ++counts.other_calls;
  return PMPI_Send(data, count, type, to, tag, comm);
}

int MPI_Bcast(void* data, int count, MPI_Datatype type, int root, MPI_Comm comm) {
  ++counts.other_calls;
  return PMPI_Bcast(data, count, type, root, comm);
}

int MPI_Barrier(MPI_Comm comm) {
  ++counts.other_calls;
  return PMPI_Barrier(comm);
}

int MPI_Allreduce(const void* in, void* out, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm) {
  ++counts.other_calls;
  return PMPI_Allreduce(in, out, count, type, op, comm);
}

int MPI_Allgather(const void* in, int in_count, MPI_Datatype in_type, void* out, int out_count,
                  MPI_Datatype out_type, MPI_Comm comm) {
  ++counts.other_calls;
  return PMPI_Allgather(in, in_count, in_type, out, out_count, out_type, comm);
}

int MPI_Iallgather(const void* in, int in_count, MPI_Datatype in_type, void* out, int out_count,
                   MPI_Datatype out_type, MPI_Comm comm, MPI_Request* request) {
  ++counts.other_calls;
  return PMPI_Iallgather(in, in_count, in_type, out, out_count, out_type, comm, request);
}

int MPI_Reduce_scatter_block(const void* in, void* out, int count, MPI_Datatype type, MPI_Op op,
                             MPI_Comm comm) {
  ++counts.other_calls;
  return PMPI_Reduce_scatter_block(in, out, count, type, op, comm);
}

int MPI_Alltoall(const void* in, int in_count, MPI_Datatype in_type, void* out, int out_count,
                 MPI_Datatype out_type, MPI_Comm comm) {
  ++counts.other_calls;
  return PMPI_Alltoall(in, in_count, in_type, out, out_count, out_type, comm);
}

int MPI_Put(const void* data, int count, MPI_Datatype type, int to, MPI_Aint displacement,
            int to_count, MPI_Datatype to_type, MPI_Win window) {
  ++counts.other_calls;
  return PMPI_Put(data, count, type, to, displacement, to_count, to_type, window);
}

int MPI_Get(void* data, int count, MPI_Datatype type, int from, MPI_Aint displacement,
            int from_count, MPI_Datatype from_type, MPI_Win window) {
  ++counts.other_calls;
  return PMPI_Get(data, count, type, from, displacement, from_count, from_type, window);
}

}  // extern "C"
