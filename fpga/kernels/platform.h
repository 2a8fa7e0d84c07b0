/* What the two languages call the same things. One source serves CUDA (through NVRTC) and OpenCL C 1.2.
 *
 * Build options:
 *   GROUP     items of a work-group (CUDA: threads of a block); a power of two
 *   G_WINDOW  bits of a window of the generator's table: 8, 12 or 16
 *   PORTABLE  on CUDA: plain C in place of the PTX carry chains
 *   SMALL     calls in place of inlined code: for compilers of CPUs, which would take minutes otherwise
 */

#ifdef __OPENCL_VERSION__
#define KERNEL __kernel
#define GROUPED __attribute__((reqd_work_group_size(GROUP, 1, 1)))
#define GLOBAL __global
#define SHARED __local
#define CONSTANT __constant
#define CONSTANT_PTR __constant
#define DEVICE static inline
#define CALLED static __attribute__((noinline))
#define ITEM ((u32)get_global_id(0))
#define LANE ((u32)get_local_id(0))
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("nounroll")
typedef uint u32;
typedef ulong u64;
#else
#define KERNEL extern "C" __global__
#define GROUPED __launch_bounds__(GROUP)
#define GLOBAL
#define SHARED
#define CONSTANT __constant__
#define CONSTANT_PTR
#define DEVICE __device__ __forceinline__
#define CALLED __device__ __noinline__
#define ITEM (blockIdx.x * blockDim.x + threadIdx.x)
#define LANE (threadIdx.x)
#define BARRIER __syncthreads()
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
typedef unsigned int u32;
typedef unsigned long long u64;
#if !defined(PORTABLE)
#define PTX
#endif
#endif

/* What is inlined for speed's sake alone. */
#ifdef SMALL
#define HOT CALLED
#else
#define HOT DEVICE
#endif

/* Little-endian words of a 256-bit number. */
typedef struct {
    u32 w[8];
} fe;

DEVICE u32 byte_swap(u32 x)
{
    return (x >> 24) | ((x >> 8) & 0xff00u) | ((x << 8) & 0xff0000u) | (x << 24);
}
