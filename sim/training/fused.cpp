// Exact log-linear training in one pass over the prompts: the logits, softmax, advantage and pullback of a prompt stay
// in registers and the nearest cache. Runs lie side by side in a vector, a tile of LANES runs, and never meet, so what
// comes out of a run does not depend on its neighbours. RESPONSES and SIZE are fixed when this is compiled (fused.py).

#include <cmath>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int Bits __attribute__((vector_size(4 * LANES)));

// Sums that are kept in registers at once, of logits and of gradients.
constexpr int ROWS = RESPONSES < REGISTERS / 2 ? RESPONSES : REGISTERS / 2;
constexpr int MOST = REGISTERS * 3 / 4, BLOCKS = (SIZE + MOST - 1) / MOST, BLOCK = (SIZE + BLOCKS - 1) / BLOCKS;
// Prompts that are summed before they join the total, so that rounding does not grow with their number.
constexpr long TOGETHER = 256, FEW = 16;
// Metrics that are summed at once.
constexpr int GROUP = 8;
struct Sum {
    Lanes value = {};
};

static inline Lanes spread(float x) { return Lanes{} + x; }

static inline Lanes load(const float *from) {
    Lanes found;
    std::memcpy(&found, from, sizeof found);
    return found;
}

static inline Bits bits(Lanes x) {
    Bits found;
    std::memcpy(&found, &x, sizeof found);
    return found;
}

static inline Lanes lanes_of(Bits x) {
    Lanes found;
    std::memcpy(&found, &x, sizeof found);
    return found;
}

// exp of x <= 0 to about one part in 10^7; what would underflow becomes 2^-126. NaN stays NaN.
static inline Lanes exp_(Lanes x) {
    const Lanes least = spread(-126.f), magic = spread(12582912.f);
    Lanes y = x * 1.44269504f;
    y = y < least ? least : y;
    const Lanes shifted = y + magic, f = y - (shifted - magic);
    const Lanes scale = lanes_of((bits(shifted) - bits(magic) + 127) << 23);
    Lanes sum = f * 1.5403530e-4f + 1.3333558e-3f;
    sum = sum * f + 9.6181291e-3f;
    sum = sum * f + 5.5504109e-2f;
    sum = sum * f + 2.4022651e-1f;
    sum = sum * f + 6.9314718e-1f;
    sum = sum * f + 1.f;
    return sum * scale;
}

// log of x >= 1 by 2 atanh((m - 1) / (m + 1)) with m in [sqrt(1/2), sqrt(2)). NaN stays NaN.
static inline Lanes log_(Lanes x) {
    const Bits exponent = (bits(x) - 0x3f3504f3) >> 23;
    const Lanes m = lanes_of(bits(x) - (exponent << 23));
    const Lanes z = (m - 1.f) / (m + 1.f), square = z * z;
    Lanes sum = square * 0.22222222f + 0.28571429f;
    sum = sum * square + 0.4f;
    sum = sum * square + 0.66666667f;
    sum = sum * square + 2.f;
    return sum * z + __builtin_convertvector(exponent, Lanes) * 0.69314718f + (x - x);
}

template <int N>
static inline void logits_of(const float *features, const float *log_ref, const Lanes *theta, Lanes *out) {
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

// The logits of one prompt, and the largest of them.
static inline Lanes logits(const float *features, const float *log_ref, const Lanes *theta, Lanes *out) {
    int k = 0;
    for (; k + ROWS <= RESPONSES; k += ROWS) logits_of<ROWS>(features + k * SIZE, log_ref + k, theta, out + k);
    if constexpr (RESPONSES % ROWS != 0)
        logits_of<RESPONSES % ROWS>(features + k * SIZE, log_ref + k, theta, out + k);
    Lanes most = out[0];
    for (k = 1; k < RESPONSES; k++) most = out[k] > most ? out[k] : most;
    return most;
}

// sums [N] += sum_k direction[k] columns[k, :N], where a row of columns has `stride` numbers.
template <int N>
static inline void pullback(const float *columns, long stride, const Lanes *direction, Lanes *sums) {
    Lanes sum[N];
#pragma GCC unroll 64
    for (int d = 0; d < N; d++) sum[d] = sums[d];
    for (int k = 0; k < RESPONSES; k++) {
        const Lanes here = direction[k];
#pragma GCC unroll 64
        for (int d = 0; d < N; d++) sum[d] += here * columns[k * stride + d];
    }
#pragma GCC unroll 64
    for (int d = 0; d < N; d++) sums[d] = sum[d];
}

struct Prompts {
    const float *features, *log_ref, *prompt_prob; // [prompts, RESPONSES, SIZE], [prompts, RESPONSES], [prompts]
    long count;
};

// dJ/dtheta of one tile; paid is reward + kl_coef log_ref, so that paid - kl_coef logits is the penalised reward.
static inline void gradient_of(const Prompts &on, const float *paid, Lanes kl_coef, const Lanes *theta, Lanes *total) {
    Lanes part[SIZE] = {};
    for (int d = 0; d < SIZE; d++) total[d] = Lanes{};
    for (long prompt = 0; prompt < on.count; prompt++, paid += RESPONSES * LANES) {
        const float *features = on.features + prompt * RESPONSES * SIZE;
        Lanes line[RESPONSES], weight[RESPONSES];
        const Lanes most = logits(features, on.log_ref + prompt * RESPONSES, theta, line);
        Lanes sum = {}, mean = {};
        for (int k = 0; k < RESPONSES; k++) {
            weight[k] = exp_(line[k] - most);
            line[k] = load(paid + k * LANES) - kl_coef * line[k];
            sum += weight[k];
            mean += weight[k] * line[k];
        }
        const Lanes inverse = 1.f / sum, scale = inverse * on.prompt_prob[prompt];
        mean *= inverse;
        for (int k = 0; k < RESPONSES; k++) line[k] = (line[k] - mean) * (weight[k] * scale);
        for (int block = 0; block + 1 < BLOCKS; block++)
            pullback<BLOCK>(features + block * BLOCK, SIZE, line, part + block * BLOCK);
        constexpr int LAST = (BLOCKS - 1) * BLOCK;
        pullback<SIZE - LAST>(features + LAST, SIZE, line, part + LAST);
        if (prompt % TOGETHER == TOGETHER - 1 || prompt == on.count - 1)
            for (int d = 0; d < SIZE; d++) total[d] += part[d], part[d] = Lanes{};
    }
}

extern "C" int lanes() { return LANES; }

// reward [tiles, cells, LANES] = sum_s weights [tiles, signals, LANES] signals [signals, cells] + kl_coef log_ref
extern "C" void mix(const float *signals, const float *log_ref, const float *weights, const float *kl_coef,
                    float *reward, long cells, long count, long tiles) {
    for (long tile = 0; tile < tiles; tile++)
        for (long cell = 0; cell < cells; cell++) {
            Lanes sum = load(kl_coef + tile * LANES) * log_ref[cell];
            for (long s = 0; s < count; s++) sum += load(weights + (tile * count + s) * LANES) * signals[s * cells + cell];
            std::memcpy(reward + (tile * cells + cell) * LANES, &sum, sizeof sum);
        }
}

// Steps `from + 1` to `to`. state [tiles, 3, SIZE, LANES] is theta and Adam's two moments; a step that is a multiple of
// `every`, or `last`, is written to path [tiles, T, SIZE, LANES].
extern "C" void train(const float *features, const float *log_ref, const float *prompt_prob, const float *reward,
                      const float *kl_coef, const float *learning_rate, float *state, float *path, long prompts,
                      long tiles, long from, long to, long every, long last, int adam, double beta1, double beta2,
                      double epsilon) {
    const Prompts on = {features, log_ref, prompt_prob, prompts};
    const long rows = (last + every - 1) / every + 1;
    for (long tile = 0; tile < tiles; tile++) {
        Lanes held[3][SIZE], gradient[SIZE];
        Lanes *theta = held[0], *first = held[1], *second = held[2];
        std::memcpy(held, state + tile * 3 * SIZE * LANES, sizeof held);
        const Lanes coefficient = load(kl_coef + tile * LANES), rate = load(learning_rate + tile * LANES);
        for (long step = from + 1; step <= to; step++) {
            gradient_of(on, reward + tile * prompts * RESPONSES * LANES, coefficient, theta, gradient);
            if (adam) {
                const float b1 = float(beta1), b2 = float(beta2), c1 = float(1 - beta1), c2 = float(1 - beta2);
                const float corrected = float(1 - std::pow(beta2, double(step)));
                const Lanes move = rate / float(1 - std::pow(beta1, double(step)));
                for (int d = 0; d < SIZE; d++) {
                    first[d] = first[d] * b1 + gradient[d] * c1;
                    second[d] = second[d] * b2 + gradient[d] * gradient[d] * c2;
                    Lanes root = second[d] / corrected;
                    for (int lane = 0; lane < LANES; lane++) root[lane] = __builtin_sqrtf(root[lane]);
                    theta[d] += first[d] / (root + float(epsilon)) * move;
                }
            } else {
                for (int d = 0; d < SIZE; d++) theta[d] += rate * gradient[d];
            }
            if (step % every == 0 || step == last)
                std::memcpy(path + (tile * rows + (step + every - 1) / every) * SIZE * LANES, theta, sizeof held[0]);
        }
        std::memcpy(state + tile * 3 * SIZE * LANES, held, sizeof held);
    }
}

// Adds sums [count] of one tile to out [count, LANES] in double precision, and empties them.
static inline void flush(Sum *sums, long count, double *out) {
    for (long i = 0; i < count; i++, out += LANES) {
        for (int lane = 0; lane < LANES; lane++) out[lane] += sums[i].value[lane];
        sums[i].value = Lanes{};
    }
}

extern "C" int group() { return GROUP; }

// Means over the policies theta [tiles, SIZE, LANES]. values [prompts, RESPONSES, count], `count` a multiple of GROUP:
// sum_pk pi values goes to means [tiles, count, LANES]. KL(policy || reference) and the entropy, weighted by
// prompt_prob, go to nonlinear [tiles, 2, LANES] unless that is null.
extern "C" void measure(const float *features, const float *log_ref, const float *prompt_prob, const float *values,
                        const float *theta, double *means, double *nonlinear, long prompts, long count, long tiles) {
    std::vector<Sum> sums(count + 2);
    for (long tile = 0; tile < tiles; tile++) {
        Lanes at[SIZE];
        std::memcpy(at, theta + tile * SIZE * LANES, sizeof at);
        for (long prompt = 0; prompt < prompts; prompt++) {
            const float *ref = log_ref + prompt * RESPONSES, *value = values + prompt * RESPONSES * count;
            Lanes line[RESPONSES], weight[RESPONSES], sum = {};
            const Lanes most = logits(features + prompt * RESPONSES * SIZE, ref, at, line);
            for (int k = 0; k < RESPONSES; k++) sum += weight[k] = exp_(line[k] - most);
            const Lanes inverse = 1.f / sum;
            for (int k = 0; k < RESPONSES; k++) weight[k] *= inverse;
            for (long metric = 0; metric < count; metric += GROUP)
                pullback<GROUP>(value + metric, count, weight, &sums[metric].value);
            if (nonlinear) {
                const Lanes total = log_(sum);
                Lanes kl = {}, surprise = {};
                for (int k = 0; k < RESPONSES; k++) {
                    const Lanes log_prob = line[k] - most - total;
                    kl += weight[k] * (log_prob - ref[k]);
                    surprise -= weight[k] * log_prob;
                }
                sums[count].value += kl * prompt_prob[prompt];
                sums[count + 1].value += surprise * prompt_prob[prompt];
            }
            if (prompt % FEW == FEW - 1 || prompt == prompts - 1) {
                flush(sums.data(), count, means + tile * count * LANES);
                if (nonlinear) flush(&sums[count], 2, nonlinear + tile * 2 * LANES);
            }
        }
    }
}
