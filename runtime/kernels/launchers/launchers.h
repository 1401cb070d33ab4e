// The kernels of the table, by source file.
#pragma once

#include "runtime/kernels/kernel.h"

namespace memwall::launchers {

void fill(const KernelCall& call);
void copy(const KernelCall& call);
void add(const KernelCall& call);
void bias(const KernelCall& call);
void gelu(const KernelCall& call);
void gelu_grad(const KernelCall& call);
void dropout(const KernelCall& call);

void layer_norm(const KernelCall& call);
void layer_norm_grad(const KernelCall& call);
void layer_norm_scale_grad(const KernelCall& call);
void causal_softmax(const KernelCall& call);
void softmax_grad(const KernelCall& call);
void embedding(const KernelCall& call);
void embedding_grad(const KernelCall& call);
void cross_entropy(const KernelCall& call);
void cross_entropy_grad(const KernelCall& call);

void column_sum(const KernelCall& call);
void sum(const KernelCall& call);
void sum_squares(const KernelCall& call);
void sum_parts(const KernelCall& call);

void sign(const KernelCall& call);
void sign_product(const KernelCall& call);
void row_partials(const KernelCall& call);
void spatial_average(const KernelCall& call);

void gemm(const KernelCall& call);
void gemm_bias(const KernelCall& call);
void gemm_bias_gelu(const KernelCall& call);
void gemm_gelu_grad(const KernelCall& call);

void bias_gelu(const KernelCall& call);
void add_layer_norm(const KernelCall& call);
void gelu_grad_columns(const KernelCall& call);
void layer_norm_grads(const KernelCall& call);

void attention(const KernelCall& call);
void attention_grad(const KernelCall& call);

void initialize(const KernelCall& call);
void step_control(const KernelCall& call);
void adamw(const KernelCall& call);
void sgd(const KernelCall& call);
void adahessian(const KernelCall& call);

}  // namespace memwall::launchers
