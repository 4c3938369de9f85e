INSERT INTO public.orders (customer, amount)
SELECT 'customer ' || number % 1000, (number % 10000) / 100.0
  FROM generate_series(1, 200000) AS number;
