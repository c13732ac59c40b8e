// The exact log-linear step in one pass: logits, softmax, advantage and pullback of a prompt stay in registers and L1.
// Sixteen runs lie side by side in a vector; RESPONSES and SIZE are fixed when this is compiled (fused.py).

#include <cstring>

#ifndef RESPONSES
#define RESPONSES 16
#endif
#ifndef SIZE
#define SIZE 24
#endif

constexpr int LANES = 16;
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int Bits __attribute__((vector_size(4 * LANES)));

// Accumulators kept at once; AVX-512 has 32 registers.
constexpr int BLOCKS = (SIZE + 23) / 24, BLOCK = (SIZE + BLOCKS - 1) / BLOCKS;
constexpr int ROWS = RESPONSES < 16 ? RESPONSES : 16;

static inline Lanes spread(float x) { return Lanes{} + x; }

// exp of x <= 0 to about one part in 10^7; what would underflow becomes 2^-126. NaN stays NaN.
static inline Lanes exp_(Lanes x) {
    const Lanes least = spread(-126.f), magic = spread(12582912.f);
    Lanes y = x * 1.44269504f;
    y = y < least ? least : y;
    const Lanes shifted = y + magic, f = y - (shifted - magic);
    Bits n, from;
    std::memcpy(&n, &shifted, sizeof n);
    std::memcpy(&from, &magic, sizeof from);
    n = (n - from + 127) << 23;
    Lanes scale;
    std::memcpy(&scale, &n, sizeof scale);
    Lanes sum = f * 1.5403530e-4f + 1.3333558e-3f;
    sum = sum * f + 9.6181291e-3f;
    sum = sum * f + 5.5504109e-2f;
    sum = sum * f + 2.4022651e-1f;
    sum = sum * f + 6.9314718e-1f;
    sum = sum * f + 1.f;
    return sum * scale;
}

template <int N>
static inline void logits(const float *features, const float *log_ref, const Lanes *theta, Lanes *out) {
    Lanes sum[N];
#pragma GCC unroll 64
    for (int k = 0; k < N; k++) sum[k] = spread(log_ref[k]);
    for (int d = 0; d < SIZE; d++) {
        const Lanes here = theta[d];
#pragma GCC unroll 64
        for (int k = 0; k < N; k++) sum[k] += here * features[k * SIZE + d];
    }
#pragma GCC unroll 64
    for (int k = 0; k < N; k++) out[k] = sum[k];
}

template <int N>
static inline void pullback(const float *features, const Lanes *direction, Lanes *gradient) {
    Lanes sum[N];
#pragma GCC unroll 64
    for (int d = 0; d < N; d++) sum[d] = gradient[d];
    for (int k = 0; k < RESPONSES; k++) {
        const Lanes here = direction[k];
#pragma GCC unroll 64
        for (int d = 0; d < N; d++) sum[d] += here * features[k * SIZE + d];
    }
#pragma GCC unroll 64
    for (int d = 0; d < N; d++) gradient[d] = sum[d];
}

// reward is [tiles, prompts RESPONSES, LANES], with kl_coef log_ref added; theta [tiles, SIZE, LANES] is updated.
extern "C" void train(const float *features, const float *log_ref, const float *prompt_prob, const float *reward,
                      const float *kl_coef, const float *learning_rate, float *theta, long prompts, long tiles,
                      long steps) {
    for (long tile = 0; tile < tiles; tile++) {
        const float *rewards = reward + tile * prompts * RESPONSES * LANES;
        Lanes now[SIZE], coefficient, rate;
        std::memcpy(now, theta + tile * SIZE * LANES, sizeof now);
        std::memcpy(&coefficient, kl_coef + tile * LANES, sizeof coefficient);
        std::memcpy(&rate, learning_rate + tile * LANES, sizeof rate);
        for (long step = 0; step < steps; step++) {
            Lanes gradient[SIZE] = {};
            for (long prompt = 0; prompt < prompts; prompt++) {
                const float *here = features + prompt * RESPONSES * SIZE, *ref = log_ref + prompt * RESPONSES;
                const float *paid = rewards + prompt * RESPONSES * LANES;
                Lanes line[RESPONSES], weight[RESPONSES];
                int k = 0;
                for (; k + ROWS <= RESPONSES; k += ROWS) logits<ROWS>(here + k * SIZE, ref + k, now, line + k);
                if constexpr (RESPONSES % ROWS != 0)
                    logits<RESPONSES % ROWS>(here + k * SIZE, ref + k, now, line + k);
                Lanes most = line[0];
                for (k = 1; k < RESPONSES; k++) most = line[k] > most ? line[k] : most;
                Lanes total = {}, mean = {};
                for (k = 0; k < RESPONSES; k++) {
                    Lanes reward_here;
                    std::memcpy(&reward_here, paid + k * LANES, sizeof reward_here);
                    weight[k] = exp_(line[k] - most);
                    line[k] = reward_here - coefficient * line[k];
                    total += weight[k];
                    mean += weight[k] * line[k];
                }
                const Lanes inverse = 1.f / total, scale = inverse * prompt_prob[prompt];
                mean *= inverse;
                for (k = 0; k < RESPONSES; k++) line[k] = (line[k] - mean) * (weight[k] * scale);
                for (int block = 0; block + 1 < BLOCKS; block++)
                    pullback<BLOCK>(here + block * BLOCK, line, gradient + block * BLOCK);
                constexpr int LAST = (BLOCKS - 1) * BLOCK;
                pullback<SIZE - LAST>(here + LAST, line, gradient + LAST);
            }
            for (int d = 0; d < SIZE; d++) now[d] += rate * gradient[d];
        }
        std::memcpy(theta + tile * SIZE * LANES, now, sizeof now);
    }
}
