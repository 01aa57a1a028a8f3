#include "worker/backend/cuda/rows.h"
