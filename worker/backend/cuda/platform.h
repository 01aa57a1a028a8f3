#pragma once

// What kernels stand on: the CUDA runtime, or the emulator of the tests (tests/fakes/cuda), whose
// headers stand first on its include path and which defines CONCLAVE_CUDA_EMULATED. Kernels use
// nothing of CUDA that is not named here:
//   threadIdx blockIdx blockDim gridDim, __syncthreads, __syncwarp(), __shfl_sync,
//   __shfl_xor_sync, __shfl_down_sync (all lanes take part), __ballot_sync, __shared__ arrays of
//   fixed size, atomicAdd, atomicMax and atomicExch on integers, __threadfence, bf16 and e4m3
//   conversions, expf logf log1pf rsqrtf fmaf __expf, __umulhi, __float_as_uint and its kin, __ldg,
//   float2 float4 uint2 uint4 int2 int4 and make_*.
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace conclave::worker::cuda {

// How a kernel is started.
struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // Of DynamicShared.
  cudaStream_t stream = nullptr;
  // The kernel calls GridDependencyWait() before it touches what earlier kernels write, and may
  // start while they still run (programmatic dependent launch, sm_90 and up; elsewhere nothing).
  bool early = false;
  // Blocks wait for those of the same number on other devices. Whoever launches them sees to it
  // that all run at once; the emulator, which runs one after another, keeps their order.
  bool together = false;
  // What the kernel reads once and nobody reads again soon (a weight): first to leave the L2 cache,
  // so that KV, activations and the kernels' own code stay. Its first 128 MB count.
  const void* once = nullptr;
  size_t once_bytes = 0;
};

// The first launch of this thread that failed, to be named in its error. kernel: null when none
// has.
struct FailedLaunch {
  const void* kernel = nullptr;
  LaunchShape shape;
};
inline thread_local FailedLaunch failed_launch;

}  // namespace conclave::worker::cuda

#ifdef CONCLAVE_CUDA_EMULATED
#include <emulated_platform.h>  // The same functions as below.
#else

#include <utility>

namespace conclave::worker::cuda {

// Starts `kernel`. Errors stay in cudaGetLastError(), and the first one's kernel in
// `failed_launch`.
template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  cudaError_t error = cudaSuccess;
  // With its arrays of fixed size (at most half of it) a block must not take more than 48 KB
  // unasked.
  if (shape.shared_bytes > 24 * 1024) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.shared_bytes));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (shape.early) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.once != nullptr) {
    constexpr size_t kWindow = size_t{128} << 20;
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeAccessPolicyWindow;
    attribute.val.accessPolicyWindow.base_ptr = const_cast<void*>(shape.once);
    attribute.val.accessPolicyWindow.num_bytes =
        shape.once_bytes < kWindow ? shape.once_bytes : kWindow;
    attribute.val.accessPolicyWindow.hitRatio = 1;
    attribute.val.accessPolicyWindow.hitProp = cudaAccessPropertyStreaming;
    attribute.val.accessPolicyWindow.missProp = cudaAccessPropertyNormal;
  }
  const cudaError_t started =
      cudaLaunchKernelEx(&config, kernel, Parameters(std::forward<Arguments>(arguments))...);
  if (error == cudaSuccess) error = started;
  if (error != cudaSuccess && failed_launch.kernel == nullptr) {
    failed_launch = {reinterpret_cast<const void*>(kernel), shape};
  }
}

#ifdef __CUDACC__

// The block's dynamic shared memory, aligned to 128 bytes (1024 where the kernel rounds it up).
template <typename T>
__device__ inline T* DynamicShared() {
  extern __shared__ __align__(1024) unsigned char conclave_dynamic_shared[];
  return reinterpret_cast<T*>(conclave_dynamic_shared);
}

// Waits until all kernels before this one are done and their writes can be seen.
__device__ inline void GridDependencyWait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel may be started from here on (it waits itself for what it needs).
__device__ inline void GridDependencyLaunch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// d += a b: a [16][16] row-major bf16, b [16][8] column-major bf16, d [16][8] f32. Lane l, g = l /
// 4, t = l % 4 holds, as pairs of neighbours in k (the lower in the lower half):
//   a[0] = A[g][2t..], a[1] = A[g+8][2t..], a[2] = A[g][2t+8..], a[3] = A[g+8][2t+8..]
//   b[0] = B[2t..][g], b[1] = B[2t+8..][g]
//   d[0] = D[g][2t], d[1] = D[g][2t+1], d[2] = D[g+8][2t], d[3] = D[g+8][2t+1]
__device__ inline void Mma16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8x8 matrices of 16-bit numbers from shared memory: lane l gives the address of row l % 8 of
// matrix l / 8 (16 bytes, aligned); r[i] = the lane's pair of matrix i: row l / 4, columns 2(l %
// 4), +1. Transposed: r[i] = rows 2(l % 4), +1 of column l / 4.
__device__ inline void LoadMatrixX4(uint32_t (&r)[4], const void* row) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}
__device__ inline void LoadMatrixX4Transposed(uint32_t (&r)[4], const void* row) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}

// 2^x to about 22 bits, in one instruction; exactly 1 of 0 and 0 of minus infinity, 0 below 2^-126.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 16 bytes from global to shared memory, later; zeros when !valid (then `from` is not read). Both
// aligned to 16.
__device__ inline void CopyAsync16(void* shared, const void* from, bool valid = true) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes)
               : "memory");
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kPending` of this thread's committed groups are under way.
template <int kPending>
__device__ inline void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// 16 bytes that are read once (weights): past L1.
__device__ inline uint4 LoadOnce16(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}
// Byte i of the result is what hexadecimal digit i of `selector` (0 the rightmost) says: 0-3 that
// byte of `word`, 8-b the sign of byte 0-3, spread over the byte.
__device__ inline uint32_t SelectBytes(uint32_t word, uint32_t selector) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, 0, %2;" : "=r"(bytes) : "r"(word), "r"(selector));
  return bytes;
}
// Brings the line (128 bytes) that holds `from` to L2.
__device__ inline void PrefetchL2(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

#endif  // __CUDACC__

}  // namespace conclave::worker::cuda

#endif  // CONCLAVE_CUDA_EMULATED
