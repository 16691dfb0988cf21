insert into person
select (array['mike', 'joe', 'sally', 'sandra', 'alex', 'sue', 'denise', 'sarah'])[n % 8 + 1] || n,
    18 + n * 7 % 60, point(n * 3 % 20 / 2.0, n * 7 % 30 / 2.0)
from generate_series(1, 50) as n;
